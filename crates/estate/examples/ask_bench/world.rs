//! The estate that is asked about, and who is granted what by a policy of its own.

use estate::{Action, Estate, EstateFiles, ResourceRef};
use facts::{FactSet, Source, Timestamp, names};
use std::fmt::Write as _;

const TABLES_PER_SCHEMA: usize = 100;
const SCHEMAS_PER_DATABASE: usize = 100;
const TEAMS: usize = 100;
/// Groups of four levels: 1, 10, 100, 1000.
const LEVELS: [usize; 4] = [1, 10, 100, 1_000];
const CLASSES: [&str; 4] = ["public", "internal", "pii", "restricted"];
const KINDS: [&str; 3] = ["service", "job", "ai-agent"];
pub(crate) const ACTIONS: [Action; 4] = [
    Action::Select,
    Action::Insert,
    Action::Update,
    Action::Delete,
];

#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) policies: usize,
    pub(crate) tables: usize,
    pub(crate) identities: usize,
}

pub(crate) type Granted = (String, Action, ResourceRef);

/// xorshift64*: the same numbers everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
    }
}

/// Names of as many digits, so that their order is that of the numbers.
pub(crate) fn identity(number: usize) -> String {
    format!("i{number:06}")
}

pub(crate) fn table(number: usize) -> String {
    let (schema, table) = (number / TABLES_PER_SCHEMA, number % TABLES_PER_SCHEMA);
    let database = schema / SCHEMAS_PER_DATABASE;
    format!("d{database:03}/s{schema:05}/{table:02}")
}

pub(crate) fn place_of_identity(path: &str, count: usize) -> usize {
    let number = path
        .strip_prefix('i')
        .and_then(|digits| digits.parse().ok());
    number.unwrap_or(count)
}

/// Of what no file lists, the end.
pub(crate) fn place_of_table(path: &str, count: usize) -> usize {
    let place = || {
        let (schema, table) = path.split_once("/s")?.1.split_once('/')?;
        let (schema, table): (usize, usize) = (schema.parse().ok()?, table.parse().ok()?);
        Some(schema * TABLES_PER_SCHEMA + table)
    };
    place().unwrap_or(count)
}

/// 70 % of the policies name an identity and a table, 20 % a group and a schema, 8 % attributes alone, and 2 % forbid
/// by attributes.
pub(crate) fn made(random: &mut Random, size: Size) -> (Estate, Vec<Granted>) {
    let mut granted = Vec::new();
    let mut text = String::new();
    for number in 0..size.policies {
        let action = ACTIONS[random.below(ACTIONS.len())];
        let class = CLASSES[random.below(CLASSES.len())];
        let kind = KINDS[random.below(KINDS.len())];
        let team = random.below(TEAMS);
        let _ = write!(text, "@id(\"p{number}\") ");
        match number % 100 {
            0..70 => {
                let who = identity(random.below(size.identities));
                let what = table(random.below(size.tables));
                let _ = writeln!(
                    text,
                    "permit (principal == Identity::\"{who}\", action == Action::\"{action}\", \
                     resource == Table::\"{what}\") \
                     when {{ context.machine has join && context.machine.join == \"tpm\" }};"
                );
                granted.push((who, action, ResourceRef::table(what)));
            }
            70..90 => {
                let level = random.below(LEVELS.len());
                let group = random.below(LEVELS[level]);
                let within = table(random.below(size.tables));
                let (schema, _) = within.rsplit_once('/').expect("a path of three");
                let _ = writeln!(
                    text,
                    "permit (principal in Group::\"g{level}-{group}\", action == Action::\"{action}\", \
                     resource in Schema::\"{schema}\") when {{ resource.classification == \"{class}\" }};"
                );
            }
            90..98 => {
                let _ = writeln!(
                    text,
                    "permit (principal, action == Action::\"{action}\", resource is Table) \
                     when {{ principal.hasTag(\"team\") && principal.getTag(\"team\") == \"{team}\" \
                     && resource has owner && resource.owner == \"o{}\" && context.machine has join && context.machine.join == \"tpm\" }};",
                    random.below(50)
                );
            }
            _ => {
                let _ = writeln!(
                    text,
                    "forbid (principal, action == Action::\"{action}\", resource is Table) \
                     when {{ principal.kind == \"{kind}\" && resource.classification == \"{class}\" }};"
                );
            }
        }
    }
    (compile(size, text), granted)
}

fn compile(size: Size, policies: String) -> Estate {
    let mut files = EstateFiles::new();
    files.insert(
        "estate.toml",
        "trust_domain = \"bench\"\nclassifications = [\"public\", \"internal\", \"pii\", \"restricted\"]\n",
    );
    files.insert("identities/all.toml", identities(size));
    for (number, text) in databases(size).into_iter().enumerate() {
        files.insert(format!("resources/d{number}.toml"), text);
    }
    files.insert("policies/all.cedar", policies);
    match Estate::compile(&files) {
        Ok(estate) => estate,
        Err(problems) => {
            let first: Vec<_> = problems.iter().take(5).map(ToString::to_string).collect();
            unreachable!("{}", first.join("\n"))
        }
    }
}

fn identities(size: Size) -> String {
    let mut text = String::new();
    for (level, groups) in LEVELS.iter().enumerate() {
        for group in 0..*groups {
            let _ = writeln!(text, "[[group]]\nname = \"g{level}-{group}\"");
            if let Some(above) = level.checked_sub(1) {
                let _ = writeln!(text, "groups = [\"g{above}-{}\"]", group / 10);
            }
        }
    }
    for number in 0..size.identities {
        let _ = write!(
            text,
            "[[identity]]\npath = \"{}\"\nkind = \"{}\"\nowner = \"o{}\"\ngroups = [\"g3-{}\"]\nlabels = {{ team = \"{}\" }}\nvisible = [\"machine.join\"]\n",
            identity(number),
            KINDS[number % KINDS.len()],
            number % 50,
            number % LEVELS[3],
            number % TEAMS,
        );
    }
    text
}

/// One file each. Tables are classified and owned as their schemas are: more is not said of a million of them in the
/// 16 MiB that an estate may have.
fn databases(size: Size) -> Vec<String> {
    let mut files: Vec<String> = Vec::new();
    for schema in 0..size.tables.div_ceil(TABLES_PER_SCHEMA) {
        if schema % SCHEMAS_PER_DATABASE == 0 {
            let database = schema / SCHEMAS_PER_DATABASE;
            files.push(format!("[[database]]\nname = \"d{database:03}\"\n"));
        }
        let Some(text) = files.last_mut() else {
            continue;
        };
        let _ = write!(
            text,
            "[[database.schema]]\nname = \"s{schema:05}\"\nclassification = \"{}\"\nowner = \"o{}\"\ntable = [",
            CLASSES[schema % CLASSES.len()],
            schema % 47,
        );
        for table in 0..TABLES_PER_SCHEMA {
            let _ = write!(text, "{{name=\"{table:02}\"}},");
        }
        text.push_str("]\n");
    }
    files
}

/// A session on a machine that joined by TPM: what every condition of the policies asks for.
pub(crate) fn session() -> FactSet {
    let mut facts = FactSet::new();
    for (name, value) in [(names::MACHINE_NAME, "m1"), (names::MACHINE_JOIN, "tpm")] {
        facts.state(name, value, Source::Verified, Timestamp::EPOCH);
    }
    facts
}
