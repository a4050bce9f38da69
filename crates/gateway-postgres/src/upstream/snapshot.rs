//! Reads the catalogue into a [`Catalog`], and tells cheaply whether it has changed.

use super::admin::{Admin, AdminError, Row};
use crate::sql::{Catalog, Function, Reference, ReferentialAction, Relation, RelationKind};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Not in a system schema: those are known by name alone.
const OURS: &str = "n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'";

/// One text that differs whenever a definition does. Columns change by themselves, as when one is renamed; there are
/// too many of them to list. Row versions (`xmin`) change with every
/// `CREATE`, `ALTER` and `DROP`; counting the rows as well notices removals.
const FINGERPRINT: &str = "
SELECT md5(concat_ws('/',
  (SELECT string_agg(c.oid || ':' || c.xmin, ',' ORDER BY c.oid) FROM pg_class c WHERE c.oid >= 16384 AND c.relkind IN ('r','p','v','m','f','S')),
  (SELECT count(*) || ':' || sum(hashtextextended(a.attrelid || ':' || a.attnum || ':' || a.xmin, 0)) FROM pg_attribute a WHERE a.attrelid >= 16384 AND a.attnum > 0),
  (SELECT string_agg(r.oid || ':' || r.xmin, ',' ORDER BY r.oid) FROM pg_rewrite r WHERE r.oid >= 16384),
  (SELECT string_agg(i.inhrelid || ':' || i.inhparent, ',' ORDER BY i.inhrelid, i.inhparent) FROM pg_inherits i),
  (SELECT count(*) || ':' || sum(hashtextextended(k.oid || ':' || k.xmin, 0)) FROM pg_constraint k WHERE k.contype <> 'n'),
  (SELECT count(*) || ':' || sum(hashtextextended(d.oid || ':' || d.xmin, 0)) FROM pg_attrdef d),
  (SELECT count(*) || ':' || sum(hashtextextended(i.indexrelid || ':' || i.xmin, 0)) FROM pg_index i WHERE i.indexrelid >= 16384),
  (SELECT string_agg(p.oid || ':' || p.xmin, ',' ORDER BY p.oid) FROM pg_policy p),
  (SELECT string_agg(t.oid || ':' || t.xmin, ',' ORDER BY t.oid) FROM pg_trigger t WHERE NOT t.tgisinternal),
  (SELECT string_agg(p.oid || ':' || p.xmin, ',' ORDER BY p.oid) FROM pg_proc p WHERE p.oid >= 16384),
  (SELECT string_agg(o.oid || ':' || o.xmin, ',' ORDER BY o.oid) FROM pg_operator o WHERE o.oid >= 16384),
  (SELECT string_agg(t.oid || ':' || t.xmin, ',' ORDER BY t.oid) FROM pg_type t WHERE t.oid >= 16384),
  (SELECT string_agg(c.oid || ':' || c.xmin, ',' ORDER BY c.oid) FROM pg_cast c WHERE c.oid >= 16384),
  (SELECT string_agg(n.oid || ':' || n.xmin, ',' ORDER BY n.oid) FROM pg_namespace n),
  (SELECT d.xmin::text FROM pg_database d WHERE d.datname = current_database())
)), current_setting('server_version_num')";

pub(crate) async fn fingerprint(admin: &mut Admin) -> Result<(String, u32), AdminError> {
    let rows = admin.query(FINGERPRINT).await?;
    let [version, number] = columns(rows.first().ok_or(AdminError::Row)?)?;
    let number = number.parse().map_err(|_| AdminError::Row)?;
    Ok((version.to_owned(), number))
}

pub(crate) async fn snapshot(admin: &mut Admin, database: &str) -> Result<Catalog, AdminError> {
    admin
        .query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await?;
    let taken = take(admin, database).await;
    admin.query("COMMIT").await?;
    taken
}

async fn take(admin: &mut Admin, database: &str) -> Result<Catalog, AdminError> {
    let (version, number) = fingerprint(admin).await?;
    let mut catalog = Catalog::new(database, version, number);
    let mut parents: HashMap<u32, Vec<u32>> = HashMap::new();
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for row in admin
        .query("SELECT inhrelid, inhparent FROM pg_inherits")
        .await?
    {
        let [child, parent] = columns(&row)?;
        let (child, parent) = (oid(child)?, oid(parent)?);
        parents.entry(child).or_default().push(parent);
        children.entry(parent).or_default().push(child);
    }
    let mut attributes = attributes(admin).await?;
    let hidden = hidden(admin).await?;
    let relations = format!(
        "SELECT c.oid, n.nspname, c.relname, c.relkind, c.relispartition,
           EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal)
             OR EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = c.oid AND r.ev_type <> '1'),
           CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) ELSE '' END,
           coalesce((SELECT d.refobjid FROM pg_depend d WHERE c.relkind = 'S'
             AND d.classid = 'pg_class'::regclass AND d.objid = c.oid
             AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') LIMIT 1), 0)
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {OURS}"
    );
    for row in admin.query(&relations).await? {
        let [id, schema, name, kind, partition, opaque, definition, owner] = columns(&row)?;
        let (id, owner) = (oid(id)?, oid(owner)?);
        catalog.add_relation(Relation {
            oid: id,
            schema: schema.to_owned(),
            name: name.to_owned(),
            kind: relation_kind(kind),
            partition: partition == "t",
            parents: parents.remove(&id).unwrap_or_default(),
            children: children.remove(&id).unwrap_or_default(),
            columns: attributes.remove(&id).unwrap_or_default(),
            definition: (!definition.is_empty()).then(|| definition.to_owned()),
            owned_by: (owner != 0).then_some(owner),
            opaque: opaque == "t" || hidden.contains_key(&id),
            opaque_read: hidden.get(&id).is_some_and(|reads| *reads),
        });
    }
    schemas(admin, &mut catalog).await?;
    references(admin, &mut catalog).await?;
    functions(admin, &mut catalog).await?;
    Ok(catalog)
}

/// What runs code that is not PostgreSQL's own without a statement that names it: constraints, defaults, generated
/// columns, indexes, the keys of partitions, types of columns, and policies of rows. Of the last also those that look
/// at another relation. Functions of `pg_catalog` have no dependencies: of them nothing is known here.
/// `runs` are types for whose values something of their own runs, by themselves or by what they consist of.
const HIDDEN: &str = "
WITH RECURSIVE code AS (
  SELECT d.classid, d.objid FROM pg_depend d WHERE d.refobjid >= 16384 AND d.refclassid IN
    ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_opclass'::regclass, 'pg_opfamily'::regclass)
), links(type, uses) AS MATERIALIZED (
  SELECT t.oid, t.typelem FROM pg_type t WHERE t.typelem >= 16384
  UNION ALL SELECT t.oid, t.typbasetype FROM pg_type t WHERE t.typbasetype >= 16384
  UNION ALL SELECT t.oid, a.atttypid FROM pg_type t JOIN pg_attribute a ON a.attrelid = t.typrelid
    WHERE t.typrelid >= 16384 AND a.atttypid >= 16384
  UNION ALL SELECT k.contypid, d.refobjid FROM pg_constraint k JOIN pg_depend d
    ON d.classid = 'pg_constraint'::regclass AND d.objid = k.oid AND d.refclassid = 'pg_type'::regclass
    WHERE k.contypid >= 16384 AND d.refobjid >= 16384
), runs(type) AS (
  SELECT t.oid FROM pg_type t WHERE t.oid >= 16384
    AND (t.typtype IN ('b', 'r', 'm') AND t.typcategory <> 'A'
      OR t.typtype = 'd' AND EXISTS (SELECT FROM pg_constraint k JOIN code c
        ON c.classid = 'pg_constraint'::regclass AND c.objid = k.oid WHERE k.contypid = t.oid))
  UNION SELECT l.type FROM links l JOIN runs r ON r.type = l.uses
), hangs AS (
  SELECT classid, objid FROM code
  UNION SELECT d.classid, d.objid FROM pg_depend d JOIN runs r ON r.type = d.refobjid
    WHERE d.refclassid = 'pg_type'::regclass
  UNION SELECT d.classid, d.objid FROM pg_depend d JOIN pg_policy p ON d.objid = p.oid
    WHERE d.classid = 'pg_policy'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> p.polrelid
), found(relation, reads) AS (
  SELECT k.conrelid, false FROM pg_constraint k JOIN hangs h ON h.classid = 'pg_constraint'::regclass AND h.objid = k.oid
  UNION SELECT a.adrelid, false FROM pg_attrdef a JOIN hangs h ON h.classid = 'pg_attrdef'::regclass AND h.objid = a.oid
  UNION SELECT i.indrelid, false FROM pg_index i JOIN hangs h ON h.classid = 'pg_class'::regclass AND h.objid = i.indexrelid
  UNION SELECT c.oid, false FROM pg_class c JOIN hangs h ON h.classid = 'pg_class'::regclass AND h.objid = c.oid
    WHERE c.relkind IN ('r', 'p', 'f')
  UNION SELECT p.polrelid, p.polcmd IN ('r', '*') FROM pg_policy p JOIN hangs h
    ON h.classid = 'pg_policy'::regclass AND h.objid = p.oid
)
SELECT relation, bool_or(reads) FROM found WHERE relation >= 16384 GROUP BY relation";

/// The relations that run code of their own when rows are written, and of each whether also when they are read.
async fn hidden(admin: &mut Admin) -> Result<HashMap<u32, bool>, AdminError> {
    let mut hidden = HashMap::new();
    // It is estimated to return far more than it does, and compiling it takes longer than running it.
    admin.query("SET LOCAL jit = off").await?;
    for row in admin.query(HIDDEN).await? {
        let [relation, reads] = columns(&row)?;
        hidden.insert(oid(relation)?, reads == "t");
    }
    Ok(hidden)
}

/// The columns of each relation. A name that many tables have is kept once.
async fn attributes(admin: &mut Admin) -> Result<HashMap<u32, Vec<Arc<str>>>, AdminError> {
    let columns_of = format!(
        "SELECT a.attrelid, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
         JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE {OURS} AND c.relkind IN ('r','p','v','m','f') AND a.attnum > 0 AND NOT a.attisdropped
         ORDER BY a.attrelid, a.attnum"
    );
    let mut known: HashSet<Arc<str>> = HashSet::new();
    let mut of_relations: HashMap<u32, Vec<Arc<str>>> = HashMap::new();
    for row in admin.query(&columns_of).await? {
        let [relation, name] = columns(&row)?;
        let name = match known.get(name) {
            Some(name) => Arc::clone(name),
            None => {
                let name: Arc<str> = Arc::from(name);
                known.insert(Arc::clone(&name));
                name
            }
        };
        of_relations.entry(oid(relation)?).or_default().push(name);
    }
    Ok(of_relations)
}

async fn references(admin: &mut Admin, catalog: &mut Catalog) -> Result<(), AdminError> {
    let keys = "SELECT conrelid, confrelid, confdeltype, confupdtype FROM pg_constraint WHERE contype = 'f'";
    for row in admin.query(keys).await? {
        let [from, to, on_delete, on_update] = columns(&row)?;
        let reference = Reference {
            from: oid(from)?,
            on_delete: referential_action(on_delete)?,
            on_update: referential_action(on_update)?,
        };
        catalog.add_reference(oid(to)?, reference);
    }
    Ok(())
}

fn referential_action(letter: &str) -> Result<ReferentialAction, AdminError> {
    match letter {
        "a" | "r" => Ok(ReferentialAction::Nothing),
        "c" => Ok(ReferentialAction::Cascade),
        "n" | "d" => Ok(ReferentialAction::Set),
        _ => Err(AdminError::Row),
    }
}

async fn schemas(admin: &mut Admin, catalog: &mut Catalog) -> Result<(), AdminError> {
    for row in admin.query("SELECT nspname FROM pg_namespace").await? {
        let [schema] = columns(&row)?;
        catalog.add_schema(schema.to_owned());
    }
    let usage = "SELECT n.nspname, a.grantee, coalesce(r.rolname, '')
         FROM pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
         LEFT JOIN pg_roles r ON r.oid = a.grantee WHERE a.privilege_type = 'USAGE'";
    for row in admin.query(usage).await? {
        let [schema, grantee, role] = columns(&row)?;
        let role = (grantee != "0").then(|| role.to_owned());
        catalog.add_usage(schema.to_owned(), role);
    }
    Ok(())
}

/// Of a procedure the arguments that it gives back are written down in a CALL too, and stand in
/// `proallargtypes` only.
async fn functions(admin: &mut Admin, catalog: &mut Catalog) -> Result<(), AdminError> {
    let own = "SELECT n.nspname, p.proname, p.pronargs - p.pronargdefaults,
           CASE WHEN p.prokind = 'p' THEN coalesce(cardinality(p.proallargtypes), p.pronargs) ELSE p.pronargs END,
           p.provariadic <> 0
         FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname <> 'pg_catalog'";
    for row in admin.query(own).await? {
        let [schema, name, required, most, variadic] = columns(&row)?;
        let most: usize = most.parse().map_err(|_| AdminError::Row)?;
        catalog.add_function(Function {
            schema: schema.to_owned(),
            name: name.to_owned(),
            required: required.parse().map_err(|_| AdminError::Row)?,
            most: (variadic != "t").then_some(most),
        });
    }
    let system = "SELECT DISTINCT p.proname FROM pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace";
    for row in admin.query(system).await? {
        let [name] = columns(&row)?;
        catalog.add_system_function(name.to_owned());
    }
    let system = "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE (n.nspname = 'information_schema' OR n.nspname ~ '^pg_') AND c.relkind IN ('r','v','m','p')";
    for row in admin.query(system).await? {
        let [schema, name] = columns(&row)?;
        catalog.add_system_relation(schema.to_owned(), name.to_owned());
    }
    let operators = "SELECT o.oprname, n.nspname, p.proname FROM pg_operator o
         JOIN pg_proc p ON p.oid = o.oprcode JOIN pg_namespace n ON n.oid = p.pronamespace
         WHERE o.oprnamespace <> 'pg_catalog'::regnamespace";
    for row in admin.query(operators).await? {
        let [name, schema, function] = columns(&row)?;
        catalog.add_operator(name.to_owned(), schema.to_owned(), function.to_owned());
    }
    let types = "SELECT t.typname FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
         WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND t.typtype <> 'e'
           AND NOT EXISTS (SELECT FROM pg_type e WHERE e.oid = t.typelem AND e.typtype = 'e')";
    for row in admin.query(types).await? {
        let [name] = columns(&row)?;
        catalog.add_opaque_type(name.to_owned());
    }
    let harmless = "SELECT t.oid FROM pg_type t WHERE t.oid >= 16384 AND (t.typtype = 'e'
           OR EXISTS (SELECT FROM pg_type e WHERE e.oid = t.typelem AND e.typtype = 'e'))";
    for row in admin.query(harmless).await? {
        let [id] = columns(&row)?;
        catalog.add_harmless_type(oid(id)?);
    }
    let casts = "SELECT t.typname, n.nspname, p.proname FROM pg_cast c JOIN pg_type t ON t.oid = c.casttarget
         JOIN pg_proc p ON p.oid = c.castfunc JOIN pg_namespace n ON n.oid = p.pronamespace
         WHERE c.oid >= 16384";
    for row in admin.query(casts).await? {
        let [target, schema, function] = columns(&row)?;
        catalog.add_cast(target.to_owned(), schema.to_owned(), function.to_owned());
    }
    Ok(())
}

fn relation_kind(kind: &str) -> RelationKind {
    match kind {
        "r" => RelationKind::Table,
        "p" => RelationKind::Partitioned,
        "v" => RelationKind::View,
        "m" => RelationKind::MaterializedView,
        "f" => RelationKind::Foreign,
        "S" => RelationKind::Sequence,
        _ => RelationKind::Other,
    }
}

/// Exactly `COUNT` columns, none of them NULL.
pub(crate) fn columns<const COUNT: usize>(row: &Row) -> Result<[&str; COUNT], AdminError> {
    let values: Option<Vec<&str>> = row.iter().map(Option::as_deref).collect();
    values
        .and_then(|values| <[&str; COUNT]>::try_from(values).ok())
        .ok_or(AdminError::Row)
}

pub(crate) fn oid(text: &str) -> Result<u32, AdminError> {
    text.parse().map_err(|_| AdminError::Row)
}
