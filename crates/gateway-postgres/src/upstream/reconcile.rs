//! Makes the roles and grants of a database those of the estate: first what takes rights away, then the
//! roles, then the grants. What the database refuses is a finding and keeps nothing else from happening.
//!
//! A role is ours if it bears our mark as its comment; no other role is ever touched. What a policy
//! allows under some facts the role needs as well: the gateway decides each time.

use super::admin::{Admin, AdminError, identifier, literal};
use super::roles::Roles;
use super::scram::RoleSecret;
use super::snapshot::{columns, oid};
use crate::sql::{self, Catalog, Environment, Relation, RelationKind, Views};
use estate::{Action, Estate, ResourceKind, ResourceRef};
use facts::Finding;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// What was done, and what the administrator should know.
#[derive(Debug, Default)]
pub(crate) struct Reconciled {
    pub(crate) roles: usize,
    pub(crate) granted: usize,
    pub(crate) revoked: usize,
    pub(crate) findings: Vec<Finding>,
}

/// One privilege on one object, as GRANT words it: `SELECT`, `TABLE "public"."cards"`.
type Privilege = (String, &'static str);

/// `most` is how many connections each role may have at once, whoever opens them.
pub(crate) async fn reconcile(
    admin: &mut Admin,
    named: &Roles,
    estate: &Estate,
    catalog: &Catalog,
    views: &Views,
    most: usize,
    secret: &(dyn Fn(&str) -> (Arc<RoleSecret>, bool) + Sync),
) -> Result<Reconciled, AdminError> {
    let mut report = Reconciled::default();
    let existing = marked_roles(admin).await?;
    let routines = routines(admin).await?;
    let held_before = held(admin).await?;
    let nothing = BTreeSet::new();
    let mut ours = BTreeMap::new();
    // What takes rights away comes first, so that nothing which fails later keeps it from happening.
    let (mut revokes, mut roles, mut grants) = (Vec::new(), Vec::new(), Vec::new());

    for identity in estate.identities() {
        let role = named.name(&identity.path);
        let mark = named.mark(&identity.path);
        let name = identifier(&role);
        match existing.get(&role) {
            Some(found) if found.comment != mark => {
                report.findings.push(
                    Finding::new(
                        "GATEWAY-ROLE-FOREIGN",
                        format!("the role {role} is not this gateway's"),
                    )
                    .expected(mark)
                    .observed(found.comment.clone())
                    .next("rename that role; until then the identity cannot log in"),
                );
                continue;
            }
            Some(found) => {
                let (secret, fresh) = secret(&identity.path);
                let mut changes = String::new();
                if fresh {
                    changes = format!(" LOGIN PASSWORD {}", literal(&secret.verifier()));
                }
                if found.most != most.to_string() {
                    changes.push_str(&format!(" CONNECTION LIMIT {most}"));
                }
                if !changes.is_empty() {
                    roles.push(Step::role(format!("ALTER ROLE {name}{changes};"), &role));
                }
            }
            None => {
                let verifier = literal(&secret(&identity.path).0.verifier());
                let sql = format!(
                    "CREATE ROLE {name} LOGIN NOINHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS CONNECTION LIMIT {most} PASSWORD {verifier};\nCOMMENT ON ROLE {name} IS {};",
                    literal(&mark)
                );
                roles.push(Step::role(sql, &role));
            }
        }
        ours.insert(role, identity.path.as_str());
    }
    report.roles = ours.len();
    for (role, found) in &existing {
        if named.own(&found.comment) && !ours.contains_key(role) {
            let sql = format!("ALTER ROLE {} NOLOGIN PASSWORD NULL;", identifier(role));
            revokes.push(Step::role(sql, role));
            let has = held_before.get(role).unwrap_or(&nothing);
            revokes.extend(has.iter().map(|privilege| Step::revoke(privilege, role)));
        }
    }
    // Views are worked out for it, which may take long: the rest of the runtime goes on.
    let wanted_by_role = tokio::task::block_in_place(|| {
        let wanted = |identity: &str| wanted(estate, catalog, views, &routines, identity);
        let roles = ours.iter();
        let wanted = roles.map(|(role, identity)| (role, wanted(identity)));
        wanted.collect::<Vec<_>>()
    });
    for (role, wanted) in &wanted_by_role {
        let has = held_before.get(*role).unwrap_or(&nothing);
        let missing = wanted.difference(has);
        grants.extend(missing.map(|privilege| Step::grant(privilege, role)));
        let surplus = has.difference(wanted);
        revokes.extend(surplus.map(|privilege| Step::revoke(privilege, role)));
    }
    let mut refused = run_all(admin, &revokes).await?;
    refused.extend(run_all(admin, &roles).await?);
    refused.extend(run_all(admin, &grants).await?);
    let taken = |step: &Step| !refused.contains_key(&step.sql);
    report.revoked = revokes
        .iter()
        .filter(|step| step.object.is_some() && taken(step))
        .count();
    report.granted = grants.iter().filter(|step| taken(step)).count();
    if !revokes.is_empty() || !grants.is_empty() {
        // GRANT and REVOKE without the right to do so may also end with a mere warning.
        let held_after = held(admin).await?;
        let holds = |step: &Step| {
            let has = held_after.get(&step.role).unwrap_or(&nothing);
            step.object
                .as_ref()
                .is_some_and(|object| has.contains(object))
        };
        let left = revokes
            .iter()
            .filter(|step| holds(step))
            .map(|step| (step, true));
        let lacking = grants
            .iter()
            .filter(|step| !holds(step))
            .map(|step| (step, false));
        for (step, revoke) in left.chain(lacking) {
            report
                .findings
                .push(step.finding(revoke, refused.get(&step.sql)));
        }
    }
    for step in roles
        .iter()
        .chain(&revokes)
        .filter(|step| step.object.is_none())
    {
        if let Some(said) = refused.get(&step.sql) {
            report.findings.push(
                Finding::new(
                    "GATEWAY-ROLE",
                    format!("the role {} could not be made as it has to be", step.role),
                )
                .observed(said.clone())
                .next("the gateway's administrative role needs CREATEROLE"),
            );
        }
    }
    open_to_all(admin, &catalog.database, &mut report).await?;
    Ok(report)
}

/// One statement about one role.
struct Step {
    sql: String,
    role: String,
    /// What is granted or revoked; nothing of a statement about the role itself.
    object: Option<Privilege>,
}

impl Step {
    fn role(sql: String, role: &str) -> Self {
        Self {
            sql,
            role: role.to_owned(),
            object: None,
        }
    }

    fn grant(privilege: &Privilege, role: &str) -> Self {
        let (object, right) = privilege;
        Self {
            sql: format!("GRANT {right} ON {object} TO {};", identifier(role)),
            role: role.to_owned(),
            object: Some(privilege.clone()),
        }
    }

    fn revoke(privilege: &Privilege, role: &str) -> Self {
        let (object, right) = privilege;
        Self {
            sql: format!("REVOKE {right} ON {object} FROM {};", identifier(role)),
            role: role.to_owned(),
            object: Some(privilege.clone()),
        }
    }

    fn finding(&self, revoke: bool, said: Option<&String>) -> Finding {
        let (object, right) = self.object.clone().unwrap_or_default();
        let role = &self.role;
        let finding = if revoke {
            Finding::new(
                "GATEWAY-REVOKE",
                format!("the role {role} still has {right} on {object}"),
            )
            .next("somebody else granted it: revoke it as whoever did")
        } else {
            Finding::new(
                "GATEWAY-GRANT",
                format!("the role {role} could not be given {right} on {object}"),
            )
            .next("give the gateway's administrative role the grant option on it")
        };
        match said {
            Some(said) => finding.observed(said.clone()),
            None => finding,
        }
    }
}

/// Runs `steps` in one transaction. If one is refused the others are run nevertheless; returns what
/// the database said of each that was, by its text.
async fn run_all(admin: &mut Admin, steps: &[Step]) -> Result<HashMap<String, String>, AdminError> {
    let mut refused = HashMap::new();
    if steps.is_empty() {
        return Ok(refused);
    }
    let mut all = String::from("BEGIN;\n");
    for step in steps {
        all.push_str(&step.sql);
        all.push('\n');
    }
    all.push_str("COMMIT;");
    match admin.query(&all).await {
        Ok(_) => return Ok(refused),
        Err(AdminError::Statement { .. }) => admin.query("ROLLBACK").await?,
        Err(error) => return Err(error),
    };
    admin.query("BEGIN").await?;
    for step in steps {
        let one = format!("SAVEPOINT one; {} RELEASE one", step.sql);
        match admin.query(&one).await {
            Ok(_) => {}
            Err(AdminError::Statement { sqlstate, message }) => {
                admin.query("ROLLBACK TO one; RELEASE one").await?;
                refused.insert(step.sql.clone(), format!("{message} (SQLSTATE {sqlstate})"));
            }
            Err(error) => return Err(error),
        }
    }
    admin.query("COMMIT").await?;
    Ok(refused)
}

/// A role whose name begins as ours do.
struct Found {
    comment: String,
    /// Its connection limit, -1 if it has none.
    most: String,
}

async fn marked_roles(admin: &mut Admin) -> Result<BTreeMap<String, Found>, AdminError> {
    let rows = admin
        .query("SELECT rolname, coalesce(shobj_description(oid, 'pg_authid'), ''), rolconnlimit FROM pg_roles WHERE rolname LIKE 'trilith/%'")
        .await?;
    let mut roles = BTreeMap::new();
    for row in rows {
        let [role, comment, most] = columns(&row)?;
        let found = Found {
            comment: comment.to_owned(),
            most: most.to_owned(),
        };
        roles.insert(role.to_owned(), found);
    }
    Ok(roles)
}

/// Schema, name and signature of every routine outside the system schemas.
async fn routines(admin: &mut Admin) -> Result<Vec<(ResourceKey, String)>, AdminError> {
    let rows = admin
        .query(
            "SELECT n.nspname, p.proname, p.oid::regprocedure::text FROM pg_proc p
             JOIN pg_namespace n ON n.oid = p.pronamespace
             WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'",
        )
        .await?;
    let mut routines = Vec::new();
    for row in rows {
        let [schema, name, signature] = columns(&row)?;
        routines.push(((schema.to_owned(), name.to_owned()), signature.to_owned()));
    }
    Ok(routines)
}

type ResourceKey = (String, String);

/// What our roles hold now, by role.
async fn held(admin: &mut Admin) -> Result<HashMap<String, BTreeSet<Privilege>>, AdminError> {
    let rows = admin
        .query(
            "SELECT r.rolname, g.object, g.privilege FROM (
               SELECT a.grantee, a.privilege_type AS privilege,
                 CASE WHEN c.relkind = 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || '\"' || replace(n.nspname, '\"', '\"\"') || '\".\"' || replace(c.relname, '\"', '\"\"') || '\"' AS object
                 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) a
               UNION ALL
               SELECT a.grantee, a.privilege_type, 'SCHEMA \"' || replace(n.nspname, '\"', '\"\"') || '\"' FROM pg_namespace n, aclexplode(n.nspacl) a
               UNION ALL
               SELECT a.grantee, a.privilege_type, 'ROUTINE ' || p.oid::regprocedure::text FROM pg_proc p, aclexplode(p.proacl) a
               UNION ALL
               SELECT a.grantee, a.privilege_type, 'DATABASE \"' || replace(d.datname, '\"', '\"\"') || '\"' FROM pg_database d, aclexplode(d.datacl) a
                 WHERE d.datname = current_database()
             ) g JOIN pg_roles r ON r.oid = g.grantee WHERE r.rolname LIKE 'trilith/%'",
        )
        .await?;
    let mut held: HashMap<String, BTreeSet<Privilege>> = HashMap::new();
    for row in rows {
        let [role, object, privilege] = columns(&row)?;
        // A privilege that this version does not know is revoked by its own name: ALL covers it.
        let privilege = known(privilege);
        held.entry(role.to_owned())
            .or_default()
            .insert((object.to_owned(), privilege));
    }
    Ok(held)
}

fn known(privilege: &str) -> &'static str {
    [
        "SELECT",
        "INSERT",
        "UPDATE",
        "DELETE",
        "TRUNCATE",
        "REFERENCES",
        "TRIGGER",
        "USAGE",
        "CREATE",
        "EXECUTE",
        "CONNECT",
        "TEMPORARY",
    ]
    .into_iter()
    .find(|known| *known == privilege)
    .unwrap_or("ALL")
}

/// What the estate allows the identity in this database, under some facts at least.
struct Rights<'a> {
    listed: HashMap<ResourceRef, BTreeSet<Action>>,
    estate: &'a Estate,
}

impl<'a> Rights<'a> {
    fn of(estate: &'a Estate, identity: &str) -> Self {
        let mut listed: HashMap<ResourceRef, BTreeSet<Action>> = HashMap::new();
        for grant in estate.grants(identity) {
            let actions = listed.entry(grant.resource).or_default();
            actions.extend(grant.actions);
            actions.extend(grant.conditional);
        }
        Self { listed, estate }
    }

    /// What is not listed has what its schema stands for.
    fn possible(&self, action: Action, resource: &ResourceRef) -> bool {
        let holds = |resource: &ResourceRef| {
            self.listed
                .get(resource)
                .is_some_and(|actions| actions.contains(&action))
        };
        if holds(resource) {
            return true;
        }
        !self.estate.object(resource).declared
            && resource.parent().is_some_and(|schema| holds(&schema))
    }
}

fn wanted(
    estate: &Estate,
    catalog: &Catalog,
    views: &Views,
    routines: &[(ResourceKey, String)],
    identity: &str,
) -> BTreeSet<Privilege> {
    let rights = Rights::of(estate, identity);
    let mut wanted = BTreeSet::new();
    let mut schemas = BTreeSet::new();
    let environment = Environment {
        catalog,
        search_path: &[],
        declared: estate,
        role: None,
        views,
    };
    for relation in catalog.relations() {
        let object = format!(
            "{}.{}",
            identifier(&relation.schema),
            identifier(&relation.name)
        );
        let object = if relation.kind == RelationKind::Sequence {
            format!("SEQUENCE {object}")
        } else {
            format!("TABLE {object}")
        };
        for (action, privilege) in privileges(relation.kind) {
            if may(&rights, environment, relation, *action) {
                wanted.insert((object.clone(), *privilege));
                schemas.insert(relation.schema.clone());
            }
        }
        let resource = table(catalog, relation);
        if rights.possible(Action::Define, &resource) {
            schemas.insert(relation.schema.clone());
        }
    }
    for ((schema, name), signature) in routines {
        let segments = [catalog.database.as_str(), schema, name];
        let resource = ResourceRef::from_segments(ResourceKind::Function, &segments);
        if rights.possible(Action::Execute, &resource) {
            wanted.insert((format!("ROUTINE {signature}"), "EXECUTE"));
            schemas.insert(schema.clone());
        }
    }
    for (resource, actions) in &rights.listed {
        let schema = if resource.kind == ResourceKind::Schema {
            Some(resource.clone())
        } else {
            resource.parent()
        };
        let in_database = |schema: &ResourceRef| {
            let (database, name) = schema.path.split_once('/')?;
            let here = ResourceRef::from_segments(ResourceKind::Database, &[&catalog.database]);
            (database == here.path).then(|| ResourceRef::name_of(name).into_owned())
        };
        if actions.contains(&Action::Define)
            && let Some(name) = schema.as_ref().and_then(in_database)
            && catalog.relations().any(|relation| relation.schema == name)
        {
            wanted.insert((format!("SCHEMA {}", identifier(&name)), "CREATE"));
            schemas.insert(name);
        }
    }
    for schema in schemas {
        wanted.insert((format!("SCHEMA {}", identifier(&schema)), "USAGE"));
    }
    wanted.insert((
        format!("DATABASE {}", identifier(&catalog.database)),
        "CONNECT",
    ));
    wanted
}

fn privileges(kind: RelationKind) -> &'static [(Action, &'static str)] {
    match kind {
        RelationKind::Sequence => &[(Action::Insert, "USAGE"), (Action::Select, "SELECT")],
        RelationKind::MaterializedView => &[(Action::Select, "SELECT")],
        RelationKind::Other => &[],
        _ => &[
            (Action::Select, "SELECT"),
            (Action::Insert, "INSERT"),
            (Action::Update, "UPDATE"),
            (Action::Delete, "DELETE"),
            (Action::Truncate, "TRUNCATE"),
        ],
    }
}

/// A relation may be touched if everything that it stands for may be.
fn may(
    rights: &Rights<'_>,
    environment: Environment<'_>,
    relation: &Relation,
    action: Action,
) -> bool {
    sql::stands_for(relation, action, environment).is_ok_and(|accesses| {
        !accesses.is_empty()
            && accesses
                .iter()
                .all(|access| rights.possible(access.action, &access.resource))
    })
}

fn table(catalog: &Catalog, relation: &Relation) -> ResourceRef {
    let segments = [catalog.database.as_str(), &relation.schema, &relation.name];
    ResourceRef::from_segments(ResourceKind::Table, &segments)
}

/// What PUBLIC may do is allowed to every role and decided by nobody.
async fn open_to_all(
    admin: &mut Admin,
    database: &str,
    report: &mut Reconciled,
) -> Result<(), AdminError> {
    let rows = admin
        .query(
            "SELECT c.oid, quote_ident(n.nspname) || '.' || quote_ident(c.relname), string_agg(a.privilege_type, ', ')
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) a
             WHERE a.grantee = 0 AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
             GROUP BY 1, 2",
        )
        .await?;
    for row in rows {
        let [id, name, privileges] = columns(&row)?;
        oid(id)?;
        report.findings.push(
            Finding::new(
                "GATEWAY-PUBLIC-GRANT",
                format!("every role of the database may use {name}"),
            )
            .observed(format!("{privileges} granted to PUBLIC"))
            .next(format!("REVOKE ALL ON {name} FROM PUBLIC")),
        );
    }
    let routines = admin
        .query(
            "SELECT count(*), min(p.oid::regprocedure::text), string_agg(DISTINCT quote_ident(n.nspname), ', ') FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace,
               aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
             WHERE a.grantee = 0 AND a.privilege_type = 'EXECUTE' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
             HAVING count(*) > 0",
        )
        .await?;
    if let Some(row) = routines.first() {
        let [count, first, schemas] = columns(row)?;
        report.findings.push(
            Finding::new("GATEWAY-PUBLIC-EXECUTE", "every role of the database may execute routines")
                .observed(format!("{count} routines granted to PUBLIC, {first} among them"))
                .next(format!("REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA {schemas} FROM PUBLIC; views, casts and defaults could call them")),
        );
    }
    let temporary = admin
        .query("SELECT 1 FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a WHERE d.datname = current_database() AND a.grantee = 0 AND a.privilege_type = 'TEMPORARY'")
        .await?;
    if !temporary.is_empty() {
        report.findings.push(
            Finding::new("GATEWAY-PUBLIC-TEMPORARY", "every role of the database may make temporary tables")
                .next(format!(
                    "REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC; the gateway refuses them itself, functions that it calls could make them",
                    identifier(database)
                )),
        );
    }
    Ok(())
}
