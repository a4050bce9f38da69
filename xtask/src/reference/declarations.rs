//! Structs and enums with their documentation, read from rustfmt's lines. Enough for declarations that
//! hold data and nothing else; what it does not know, it leaves out.

/// A `struct` with named fields, or an `enum`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Declaration {
    pub(crate) name: String,
    pub(crate) documentation: String,
    pub(crate) is_enum: bool,
    /// True if every field has a default, by an attribute of the whole.
    pub(crate) defaults: bool,
    pub(crate) members: Vec<Member>,
}

/// A field, or a variant. Fields of a variant follow it, with names `Variant.field`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// Empty for a variant.
    pub(crate) kind: String,
    pub(crate) documentation: String,
    /// May be left out of the document.
    pub(crate) optional: bool,
}

/// All declarations of a file that are public in some way, in order, up to its tests.
pub(crate) fn read(text: &str) -> Vec<Declaration> {
    let mut found = Vec::new();
    let mut reader = Reader::default();
    for line in text.lines() {
        if line.starts_with("#[cfg(test)]") {
            break;
        }
        if let Some(done) = reader.line(line) {
            found.push(done);
        }
    }
    found
}

#[derive(Default)]
struct Reader {
    documentation: Vec<String>,
    attributes: String,
    current: Option<Declaration>,
    /// How variants are written: `kebab-case`, `lowercase`.
    renaming: String,
    /// The variant whose fields are being read.
    variant: Option<String>,
}

impl Reader {
    fn line(&mut self, line: &str) -> Option<Declaration> {
        let words = line.trim();
        if let Some(text) = words.strip_prefix("///") {
            self.documentation.push(text.trim().to_owned());
            return None;
        }
        if words.starts_with("#[")
            || (!self.attributes.is_empty() && !self.attributes.ends_with(']'))
        {
            self.attributes.push_str(words);
            return None;
        }
        let documentation = std::mem::take(&mut self.documentation).join(" ");
        let attributes = std::mem::take(&mut self.attributes);
        if line == "}" {
            self.variant = None;
            return self.current.take();
        }
        match &mut self.current {
            None => {
                self.renaming = renaming(&attributes);
                self.current = opening(line, documentation, &attributes);
            }
            Some(_) if words == "}," => self.variant = None,
            Some(current) if current.is_enum && self.variant.is_none() => {
                if let Some(name) = variant_name(words) {
                    let name = rename(name, &self.renaming, &attributes);
                    if words.ends_with('{') {
                        self.variant = Some(name.clone());
                    }
                    current.members.push(Member {
                        name,
                        kind: String::new(),
                        documentation,
                        optional: false,
                    });
                    current
                        .members
                        .extend(inline_fields(words, &current.members));
                }
            }
            // Not of the document: filled in by the program.
            Some(_) if serde_words(&attributes).any(|word| word == "skip") => {}
            Some(current) => {
                if let Some((name, kind)) = field(words) {
                    let name = match &self.variant {
                        Some(variant) => format!("{variant}.{name}"),
                        None => name,
                    };
                    current.members.push(Member {
                        name,
                        optional: attributes.contains("default") || current.defaults,
                        kind,
                        documentation,
                    });
                }
            }
        }
        None
    }
}

fn opening(line: &str, documentation: String, attributes: &str) -> Option<Declaration> {
    let rest = line
        .strip_prefix("pub(crate) ")
        .or_else(|| line.strip_prefix("pub "))?;
    let (is_enum, rest) = match rest.strip_prefix("enum ") {
        Some(rest) => (true, rest),
        None => (false, rest.strip_prefix("struct ")?),
    };
    let name = rest.strip_suffix(" {")?;
    if !attributes.contains("Deserialize") {
        return None;
    }
    Some(Declaration {
        name: name.to_owned(),
        documentation,
        is_enum,
        defaults: !is_enum && serde_words(attributes).any(|word| word == "default"),
        members: Vec::new(),
    })
}

fn variant_name(words: &str) -> Option<&str> {
    let end = words.find([',', ' ', '(', '{'])?;
    let name = words.get(..end)?;
    name.starts_with(char::is_uppercase).then_some(name)
}

/// Fields of a variant on one line: `Tpm { tpm: String },`.
fn inline_fields(words: &str, members: &[Member]) -> Vec<Member> {
    let fields = words
        .split_once("{ ")
        .and_then(|(_, rest)| rest.strip_suffix(" },"));
    let (Some(fields), Some(variant)) = (fields, members.last()) else {
        return Vec::new();
    };
    fields
        .split(", ")
        .filter_map(field)
        .map(|(name, kind)| Member {
            name: format!("{}.{name}", variant.name),
            kind,
            documentation: String::new(),
            optional: false,
        })
        .collect()
}

fn field(words: &str) -> Option<(String, String)> {
    let words = words
        .strip_prefix("pub(crate) ")
        .or_else(|| words.strip_prefix("pub "))
        .unwrap_or(words);
    let (name, kind) = words.trim_end_matches(',').split_once(": ")?;
    let plain = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let name = name.strip_prefix("r#").unwrap_or(name);
    (plain || words.starts_with("r#")).then(|| (name.to_owned(), kind.to_owned()))
}

fn renaming(attributes: &str) -> String {
    quoted(attributes, "rename_all = \"")
        .unwrap_or_default()
        .to_owned()
}

fn rename(name: &str, renaming: &str, attributes: &str) -> String {
    if let Some(own) = quoted(attributes, "rename = \"") {
        return own.to_owned();
    }
    match renaming {
        "lowercase" => name.to_lowercase(),
        "kebab-case" => separated(name, '-'),
        "snake_case" => separated(name, '_'),
        _ => name.to_owned(),
    }
}

fn separated(name: &str, separator: char) -> String {
    let mut words = String::new();
    for (index, letter) in name.chars().enumerate() {
        if letter.is_uppercase() && index > 0 {
            words.push(separator);
        }
        words.extend(letter.to_lowercase());
    }
    words
}

fn quoted<'a>(attributes: &'a str, opening: &str) -> Option<&'a str> {
    let (_, rest) = attributes.split_once(opening)?;
    rest.split('"').next()
}

fn serde_words(attributes: &str) -> impl Iterator<Item = &str> {
    attributes
        .split("#[serde(")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .flat_map(|inside| inside.split(',').map(str::trim))
}

#[cfg(test)]
mod tests {
    use super::read;

    const SOURCE: &str = "\
/// Not a document.
pub struct Other {
    pub a: u8,
}

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where it
    /// listens.
    #[serde(default = \"here\")]
    pub listen: SocketAddr,
    pub join: Join,
    #[serde(skip)]
    pub given: Option<u8>,
}

#[derive(Deserialize)]
#[serde(tag = \"method\", rename_all = \"kebab-case\")]
pub enum Join {
    /// By TPM.
    LocalTpm { tpm: String },
    Token {
        /// A file.
        #[serde(default)]
        token_file: Option<PathBuf>,
    },
}
";

    #[test]
    fn fields_variants_and_their_documentation() {
        let found = read(SOURCE);
        let names: Vec<_> = found.iter().map(|found| found.name.as_str()).collect();
        assert_eq!(names, ["Config", "Join"]);
        let fields: Vec<_> = found[0]
            .members
            .iter()
            .map(|m| (m.name.as_str(), m.documentation.as_str(), m.optional))
            .collect();
        assert_eq!(
            fields,
            [("listen", "Where it listens.", true), ("join", "", false)]
        );
        let variants: Vec<_> = found[1].members.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(
            variants,
            ["local-tpm", "local-tpm.tpm", "token", "token.token_file"]
        );
        assert!(found[1].members[3].optional);
    }

    #[test]
    fn a_default_of_the_whole_makes_every_field_optional() {
        let text = "#[derive(Deserialize)]\n#[serde(deny_unknown_fields, default)]\npub struct A {\n    pub b: u8,\n}\n";
        assert!(read(text)[0].members[0].optional);
    }
}
