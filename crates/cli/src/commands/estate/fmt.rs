//! `trilith estate fmt`: the files of a folder as they should be written.

use super::read;
use crate::arguments::{FmtArguments, Global};
use crate::files::unwritable;
use crate::{Failure, output};
use estate::{Formatted, Problem};
use serde_json::json;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

pub(super) fn run(arguments: &FmtArguments, global: &Global) -> Result<ExitCode, Failure> {
    let files = read(&arguments.directory)?;
    let mut changed: Vec<&str> = Vec::new();
    let mut problems: Vec<Problem> = Vec::new();
    let mut left: Vec<Problem> = Vec::new();
    for (file, text) in &files.0 {
        match estate::format(file, text) {
            Err(found) => problems.extend(found),
            Ok(Formatted {
                text: formatted,
                left: as_it_is,
            }) => {
                left.extend(as_it_is);
                if formatted == *text {
                    continue;
                }
                if !arguments.check {
                    replace(&arguments.directory.join(file), formatted.as_bytes())?;
                }
                changed.push(file);
            }
        }
    }
    if global.json {
        output::json(&json!({ "changed": changed, "left": left, "problems": problems }));
    } else {
        let verb = if arguments.check {
            "would format"
        } else {
            "formatted"
        };
        for file in &changed {
            output::line(format_args!("{verb} {file}"));
        }
        if changed.is_empty() && problems.is_empty() {
            output::line("nothing to do");
        }
        for problem in left.iter().chain(&problems) {
            output::note(problem);
        }
    }
    let failed = !problems.is_empty() || arguments.check && !changed.is_empty();
    Ok(ExitCode::from(if failed { crate::EXIT_FAILED } else { 0 }))
}

/// Puts another content in the place of a file's: whole or not at all, and as readable as it was.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |error: std::io::Error| unwritable(path, &error);
    let permissions = std::fs::metadata(path).map_err(failed)?.permissions();
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.as_file()
        .set_permissions(permissions)
        .map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn global() -> Global {
        Global {
            json: false,
            admin_socket: "/nonexistent".into(),
            admin_server: None,
            session: None,
            log: String::new(),
        }
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let policies = folder.path().join("policies");
        std::fs::create_dir(&policies).unwrap();
        std::fs::write(
            folder.path().join("estate.toml"),
            "trust_domain = \"a.b\"\n",
        )
        .unwrap();
        let good = "permit(principal is Identity,action,resource);";
        std::fs::write(policies.join("good.cedar"), good).unwrap();
        std::fs::write(policies.join("bad.cedar"), "permit(principal,").unwrap();
        let shared = std::fs::Permissions::from_mode(0o640);
        std::fs::set_permissions(policies.join("good.cedar"), shared).unwrap();
        folder
    }

    fn ran(folder: &Path, check: bool) -> String {
        let arguments = FmtArguments {
            directory: folder.to_owned(),
            check,
        };
        format!("{:?}", run(&arguments, &global()).unwrap())
    }

    #[test]
    fn good_files_are_written_and_bad_ones_left_alone() {
        let folder = folder();
        let path = |name: &str| folder.path().join("policies").join(name);
        let text = |name: &str| std::fs::read_to_string(path(name)).unwrap();
        let failed = format!("{:?}", ExitCode::from(1));
        let good = text("good.cedar");
        assert_eq!(ran(folder.path(), true), failed);
        assert_eq!(text("good.cedar"), good, "a check writes nothing");
        assert_eq!(ran(folder.path(), false), failed, "one file does not parse");
        assert_eq!(
            text("good.cedar"),
            "permit (\n  principal is Identity,\n  action,\n  resource\n);\n"
        );
        assert_eq!(text("bad.cedar"), "permit(principal,");
        let mode = std::fs::metadata(path("good.cedar")).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o640);
        assert_eq!(
            std::fs::read_dir(folder.path().join("policies"))
                .unwrap()
                .count(),
            2
        );

        std::fs::remove_file(path("bad.cedar")).unwrap();
        assert_eq!(ran(folder.path(), true), format!("{:?}", ExitCode::SUCCESS));
    }
}
