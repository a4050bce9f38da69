//! A changed file in its place: whole or not at all, as readable as it was, and only over what was read.

use crate::Failure;
use crate::files::unwritable;
use discovery::Change;
use facts::Finding;
use std::fs::Permissions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

pub(super) fn put(estate: &Path, change: &Change) -> Result<(), Failure> {
    let path = estate.join(&change.file);
    let failed = |error: std::io::Error| unwritable(&path, &error);
    let folder = path.parent().unwrap_or(estate);
    std::fs::create_dir_all(folder).map_err(failed)?;
    let permissions = match std::fs::metadata(&path) {
        Ok(found) => Some(found.permissions()),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    // What others may read, the user's mask says.
    let mut file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(failed)?;
    file.write_all(change.after.as_bytes()).map_err(failed)?;
    if let Some(permissions) = permissions {
        file.as_file()
            .set_permissions(permissions)
            .map_err(failed)?;
    }
    file.as_file().sync_all().map_err(failed)?;
    let now = match std::fs::read(&path) {
        Ok(now) => Some(now),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    if now.as_deref() != change.before.as_deref().map(str::as_bytes) {
        return Err(Finding::new(
            "SYNC-RACED",
            format!("{} was changed in the meantime", path.display()),
        )
        .next("it was left as it is; run the same command again")
        .into());
    }
    file.persist(&path).map_err(|error| failed(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(before: Option<&str>, after: &str) -> Change {
        Change {
            file: "resources/a.toml".to_owned(),
            before: before.map(str::to_owned),
            after: after.to_owned(),
        }
    }

    #[test]
    fn a_file_is_made_then_replaced_as_it_was_and_never_over_another_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resources/a.toml");
        put(folder.path(), &change(None, "1")).unwrap();
        let shared = Permissions::from_mode(0o640);
        std::fs::set_permissions(&path, shared.clone()).unwrap();
        put(folder.path(), &change(Some("1"), "2")).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "2");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, shared.mode());
        for before in [None, Some("1")] {
            let refused = put(folder.path(), &change(before, "3")).unwrap_err();
            assert_eq!(refused.findings()[0].code, "SYNC-RACED");
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "2");
        assert_eq!(
            std::fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1
        );
    }
}
