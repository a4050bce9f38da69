-- ordinary
SELECT * FROM cards
SELECT number FROM public.cards WHERE id = $1
SELECT 1
SELECT upper(number), count(*), max(id), to_jsonb(c) FROM cards c GROUP BY 1, c
SELECT 1 FROM cards WHERE number = 's1'
TABLE cards
VALUES (1), (2)
INSERT INTO orders (id) VALUES (1)
INSERT INTO orders (id) VALUES (1) RETURNING id
INSERT INTO orders SELECT id FROM cards
INSERT INTO orders (id) VALUES (1) ON CONFLICT (id) DO NOTHING
INSERT INTO orders (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET id = excluded.id
UPDATE orders SET id = 1
UPDATE orders SET id = id + 1
UPDATE orders SET id = 1 FROM cards WHERE cards.id = orders.id
UPDATE orders SET id = (SELECT max(id) FROM cards)
DELETE FROM orders
DELETE FROM orders WHERE id = 1
DELETE FROM orders USING cards WHERE cards.id = orders.id
MERGE INTO orders o USING cards c ON o.id = c.id WHEN MATCHED THEN UPDATE SET id = c.id WHEN NOT MATCHED THEN INSERT VALUES (c.id)
MERGE INTO orders o USING cards c ON o.id = c.id WHEN MATCHED THEN DELETE
TRUNCATE orders, cards
TRUNCATE orders CASCADE
SELECT * FROM nowhere
SELECT * FROM crm.cards
SELECT * FROM other.public.cards

-- everywhere a relation can hide
SELECT * FROM card_numbers
SELECT * FROM nested
SELECT * FROM card_copy
SELECT * FROM secrets
SELECT * FROM constant
UPDATE card_numbers SET number = 'x'
WITH q AS (SELECT * FROM cards) SELECT * FROM q
WITH q AS (SELECT * FROM cards), cards AS (SELECT 1) SELECT * FROM q
WITH cards AS (SELECT 1) SELECT * FROM cards
WITH cards AS (SELECT 1) SELECT * FROM public.cards
WITH RECURSIVE q AS (SELECT 1 UNION ALL SELECT id FROM cards, q) SELECT * FROM q
WITH q AS (DELETE FROM cards RETURNING *) SELECT * FROM q
WITH orders AS (SELECT 1) INSERT INTO orders SELECT * FROM orders
SELECT (WITH cards AS (SELECT 1) SELECT 1 FROM cards) FROM cards
SELECT (SELECT number FROM cards LIMIT 1)
SELECT EXISTS (SELECT FROM cards)
SELECT ARRAY(SELECT number FROM cards)
SELECT 1 WHERE 1 IN (SELECT id FROM cards)
SELECT * FROM orders o, LATERAL (SELECT * FROM cards c WHERE c.id = o.id) x
SELECT * FROM orders NATURAL JOIN cards
SELECT 1 UNION SELECT id FROM cards
SELECT id FROM orders ORDER BY (SELECT max(id) FROM cards)
SELECT id FROM orders LIMIT (SELECT max(id) FROM cards)
SELECT sum(id) FILTER (WHERE id IN (SELECT id FROM cards)) OVER (ORDER BY (SELECT 1 FROM cards)) FROM orders
SELECT CASE WHEN EXISTS (SELECT FROM cards) THEN 1 END
SELECT * FROM cards TABLESAMPLE SYSTEM (10)
SELECT * FROM ROWS FROM (generate_series(1, (SELECT max(id)::int FROM cards))) AS x
SELECT * FROM XMLTABLE('/a' PASSING (SELECT number::xml FROM cards) COLUMNS b text)
SELECT DISTINCT ON ((SELECT 1 FROM cards)) 1
SELECT 1 GROUP BY GROUPING SETS ((), ((SELECT 1 FROM cards)))
SELECT * FROM orders FOR UPDATE
SELECT * FROM orders FOR UPDATE OF orders
SELECT (ARRAY[1])[(SELECT id FROM cards)]
VALUES ((SELECT number FROM cards))
SELECT * INTO stolen FROM cards
CREATE TABLE stolen AS SELECT * FROM cards
CREATE TABLE stolen AS TABLE cards
CREATE VIEW stolen AS SELECT * FROM cards
COPY cards TO STDOUT
COPY (SELECT * FROM cards) TO STDOUT
COPY orders FROM STDIN
COPY orders FROM STDIN WITH (FORMAT csv)
COPY orders FROM STDIN WITH (ENCODING 'sjis')
COPY cards TO '/tmp/x'
COPY cards TO PROGRAM 'curl example.org'
LOCK TABLE cards
LOCK TABLE cards IN ACCESS SHARE MODE
EXPLAIN SELECT * FROM cards
EXPLAIN (ANALYZE, FORMAT json) DELETE FROM cards
PREPARE s AS SELECT * FROM cards
EXECUTE s
EXECUTE s((SELECT 1 FROM cards))
DEALLOCATE s
DECLARE c CURSOR FOR SELECT * FROM cards
FETCH ALL FROM c
CLOSE c

-- inheritance and partitions
SELECT * FROM events
SELECT * FROM ONLY events
SELECT * FROM events_2025
SELECT * FROM events_2026
SELECT * FROM animals
SELECT * FROM ONLY animals
SELECT * FROM dogs
DELETE FROM events
INSERT INTO audited VALUES (1)
INSERT INTO measures VALUES (1)
SELECT * FROM measures
SELECT * FROM guarded
SELECT * FROM jsonb_to_recordset('[]') AS x(a cents)
SELECT * FROM ROWS FROM (jsonb_to_recordset('[]') AS (a cents)) AS x
SELECT * FROM jsonb_to_recordset('[]') AS x(a int)
SELECT last_value FROM pg_sequences

-- what foreign keys do to other tables
DELETE FROM accounts
DELETE FROM accounts WHERE id = 1
DELETE FROM lines
DELETE FROM notes
UPDATE accounts SET id = 1
UPDATE transfers SET id = 1
DELETE FROM account_ids
UPDATE account_ids SET id = 1
INSERT INTO accounts VALUES (1) ON CONFLICT (id) DO UPDATE SET id = 2
MERGE INTO accounts a USING orders o ON a.id = o.id WHEN MATCHED THEN DELETE
WITH gone AS (DELETE FROM accounts RETURNING id) SELECT count(*) FROM gone
SELECT * FROM accounts FOR UPDATE
LOCK TABLE accounts
INSERT INTO accounts VALUES (1)

-- functions
SELECT pg_read_file('/etc/passwd')
SELECT pg_catalog.pg_read_file('/etc/passwd')
SELECT ('/etc/passwd'::text).pg_read_file
SELECT c.pg_read_file FROM (SELECT '/etc/passwd'::text AS t) c
SELECT lo_get(1)
SELECT set_config('role', 'postgres', false)
SELECT pg_catalog.set_config('search_path', 'crm', false)
SELECT query_to_xml('SELECT * FROM cards', true, false, '')
SELECT current_setting('data_directory')
SELECT * FROM dblink('dbname=shop', 'SELECT * FROM cards') AS t(a text)
SELECT public.dblink('x')
SELECT card_of(1)
SELECT o.card_of FROM orders o
SELECT (o).card_of FROM orders o
SELECT lower('A')
SELECT pg_catalog.lower('A')
SELECT pg_sleep(1)
SELECT unknown_function(1)
SELECT nextval('orders_id_seq')
SELECT nextval('public.orders_id_seq'::regclass)
SELECT nextval(name) FROM orders
SELECT * FROM orders_id_seq
SELECT point '(0,0)' <-> point '(1,1)'
SELECT 1 OPERATOR(pg_catalog.+) 1
CALL card_of(1)
SELECT now(), current_user, clock_timestamp(), gen_random_uuid(), coalesce(1, 2), extract(year from now())
SELECT json_object('a': (SELECT number FROM cards))
SELECT count(*) FROM generate_series(1, 10)

-- functions that no name shows
SELECT 1 FROM orders WHERE id BETWEEN 1 AND 2
SELECT 1 FROM orders WHERE id NOT BETWEEN SYMMETRIC 1 AND 2
SELECT id::text FROM orders
SELECT CAST(id AS pg_catalog.text) FROM orders
SELECT id::int4 FROM orders
SELECT '1'::cents
SELECT '{1}'::cents[]
SELECT '1'::public.cents
CREATE TABLE a (b cents)

-- catalogues
SELECT * FROM pg_class
SELECT count(*), max(c.oid::int) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
SELECT x.* FROM (SELECT oid, relname FROM pg_class c) x
WITH x AS (SELECT relname FROM pg_class) SELECT * FROM x
SELECT reltuples FROM pg_class
SELECT relname FROM pg_class c ORDER BY c.relpages
SELECT c.* FROM pg_class c
SELECT c FROM pg_class c
SELECT row_to_json(pg_class) FROM pg_class
SELECT (c).reltuples FROM pg_class c
SELECT reltuples(c) FROM pg_class c
SELECT l FROM pg_class AS c (a, b, d, e, f, g, h, i, j, k, l)
SELECT j.* FROM (pg_class c CROSS JOIN orders) AS j
SELECT c.relname FROM pg_class c JOIN (VALUES (50::real)) v (reltuples) USING (reltuples)
SELECT c.relname FROM pg_class c NATURAL JOIN (VALUES (50::real)) v (reltuples)
SELECT y.a FROM pg_class c, LATERAL (SELECT c.*) y (a)
WITH x (a) AS (TABLE pg_catalog.pg_class) SELECT a FROM x
DELETE FROM orders USING pg_class RETURNING *
UPDATE orders SET note = 'x' FROM pg_class c RETURNING c
CREATE TABLE copied AS SELECT * FROM pg_class
COPY pg_class TO STDOUT
COPY pg_class (relname, reltuples) TO STDOUT
COPY pg_class (relname) TO STDOUT
SELECT pg_table_size('cards')
SELECT reltuples, * FROM orders
SELECT relname FROM pg_catalog.pg_class c WHERE c.oid = 'cards'::regclass
SELECT * FROM information_schema.tables
SELECT query FROM pg_stat_activity
SELECT * FROM pg_catalog.pg_stats
SELECT rolpassword FROM pg_authid
SELECT * FROM pg_settings
SELECT * FROM pg_toast.pg_toast_1
SELECT * FROM pg_temp.x
UPDATE pg_class SET relname = 'x'

-- session
BEGIN
START TRANSACTION ISOLATION LEVEL SERIALIZABLE READ ONLY
COMMIT
ROLLBACK
SAVEPOINT a
ROLLBACK TO a
PREPARE TRANSACTION 'x'
COMMIT PREPARED 'x'
SET statement_timeout = 1000
SET LOCAL work_mem = '64MB'
SET application_name = 'x'
SET TIME ZONE 'UTC'
SET NAMES 'UTF8'
SET NAMES 'SJIS'
SET client_encoding = 'GBK'
SET standard_conforming_strings = off
SET standard_conforming_strings = on
SET search_path = crm
SET ROLE postgres
SET SESSION AUTHORIZATION postgres
SET row_security = off
SET session_preload_libraries = 'x'
RESET ROLE
RESET SESSION AUTHORIZATION
RESET ALL
SHOW search_path
SHOW data_directory
SHOW ALL
SET TRANSACTION ISOLATION LEVEL SERIALIZABLE
SET TRANSACTION SNAPSHOT '1'
SET CONSTRAINTS ALL DEFERRED
DISCARD ALL
LISTEN x
NOTIFY x
UNLISTEN *

-- never
DO $$ BEGIN DELETE FROM cards; END $$
CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'
CREATE TEMP TABLE t (a int)
CREATE TABLE pg_temp.t (a int)
SELECT * INTO TEMP t FROM orders
CREATE ROLE x SUPERUSER
ALTER ROLE x PASSWORD 'y'
GRANT SELECT ON cards TO public
ALTER TABLE cards OWNER TO x
ALTER SYSTEM SET x = 'y'
CREATE EXTENSION dblink
LOAD 'x'
VACUUM cards
ANALYZE cards
CREATE TRIGGER t AFTER INSERT ON orders EXECUTE FUNCTION f()
CREATE RULE r AS ON SELECT TO orders DO INSTEAD SELECT * FROM cards
REFRESH MATERIALIZED VIEW card_copy
COMMENT ON TABLE cards IS 'x'
SECURITY LABEL ON TABLE cards IS 'x'
REASSIGN OWNED BY a TO b
CHECKPOINT
CREATE TABLE a (b int REFERENCES cards (id))
CREATE TABLE a (LIKE cards)
CREATE TABLE a () INHERITS (cards)
DROP TABLE cards CASCADE
DROP FUNCTION card_of

-- definitions
CREATE TABLE a (b int PRIMARY KEY DEFAULT 1 CHECK (b > 0))
CREATE TABLE a (b text DEFAULT pg_read_file('/etc/passwd'))
CREATE INDEX ON cards (lower(number))
DROP TABLE cards, orders

-- several, none, and not SQL
SELECT 1; SELECT * FROM cards; COMMIT
;

SELEC 1
SELECT 'unfinished

-- sequences by other words than their name
SELECT nextval('11')
SELECT nextval('11'::regclass)
SELECT nextval(cast('11' as oid))
SELECT nextval(' orders_id_seq')
SELECT nextval(E'orders_id_seq\t')
SELECT nextval('public . orders_id_seq')
SELECT nextval('"orders_id_seq"')
SELECT nextval('"public"."orders_id_seq"'::regclass)
SELECT nextval('orders_id_seqorders_id_seqorders_id_seqorders_id_seqorders_id_seq')
CREATE TABLE fresh (id int DEFAULT nextval('11'))
CREATE TABLE fresh (id int DEFAULT nextval('orders_id_seq'))

-- a commit that does not last
SET synchronous_commit = off
SET LOCAL synchronous_commit TO 'OFF'
SET synchronous_commit = local
SET synchronous_commit = remote_write
SET synchronous_commit = 0
SET SYNCHRONOUS_COMMIT = false
SET synchronous_commit = on
SET synchronous_commit = 'remote_apply'
SET synchronous_commit TO DEFAULT
RESET synchronous_commit

-- a view's name is its own
DROP VIEW card_numbers
DROP MATERIALIZED VIEW card_copy
CREATE OR REPLACE VIEW card_numbers AS SELECT 1 AS number
CREATE OR REPLACE VIEW constant AS SELECT id AS one FROM cards
