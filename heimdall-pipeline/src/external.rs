//! What a folder outside of the cache holds, as a token that changes when its content does.

use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::PipelineError;
use crate::cache::{Digest, digest_of_file};

/// Returns a digest of the names and contents of all files in a folder; its own name and the times
/// of its files have no part in it. A link counts as what it leads to.
pub(crate) fn folder_token(folder: &Path) -> Result<Digest, PipelineError> {
    let mut paths = Vec::new();
    list(folder, &PathBuf::new(), &mut Vec::new(), &mut paths)?;
    paths.sort();
    let digests = paths
        .par_iter()
        .map(|path| {
            let path = folder.join(path);
            digest_of_file(&path).map_err(PipelineError::io("read", &path))
        })
        .collect::<Result<Vec<_>, PipelineError>>()?;
    Ok(Digest::of_tree(paths.iter().map(String::as_str).zip(&digests)))
}

/// Adds the paths of all files in `folder/inner`, with `open` holding the folders on the way there,
/// so that a link back to one of them is not followed forever.
fn list(
    folder: &Path,
    inner: &Path,
    open: &mut Vec<PathBuf>,
    paths: &mut Vec<String>,
) -> Result<(), PipelineError> {
    let here = folder.join(inner);
    let real = fs::canonicalize(&here).map_err(PipelineError::io("open", &here))?;
    if open.contains(&real) {
        return Ok(());
    }
    open.push(real);
    for entry in fs::read_dir(&here).map_err(PipelineError::io("list", &here))? {
        let entry = entry.map_err(PipelineError::io("list", &here))?;
        let path = entry.path();
        let kind = fs::metadata(&path).map_err(PipelineError::io("look at", &path))?;
        let inner = inner.join(entry.file_name());
        match inner.to_str() {
            Some(name) if kind.is_file() => paths.push(name.to_owned()),
            Some(_) if kind.is_dir() => list(folder, &inner, open, paths)?,
            _ => return Err(PipelineError::SpecialFile { path }),
        }
    }
    open.pop();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn token_knows_names_and_contents_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let [one, same, other] = ["one", "same", "other"].map(|name| folder.path().join(name));
        for path in [&one, &same, &other] {
            fs::create_dir_all(path.join("inner")).unwrap();
            fs::write(path.join("inner/a.wav"), "a").unwrap();
        }
        fs::write(other.join("inner/a.wav"), "b").unwrap();

        let token = folder_token(&one).unwrap();

        assert_eq!(token, folder_token(&same).unwrap());
        assert_ne!(token, folder_token(&other).unwrap());
        fs::rename(same.join("inner/a.wav"), same.join("inner/b.wav")).unwrap();
        assert_ne!(token, folder_token(&same).unwrap());
    }

    #[test]
    fn link_counts_as_what_it_leads_to() {
        let folder = tempfile::tempdir().unwrap();
        let [plain, linked] = ["plain", "linked"].map(|name| folder.path().join(name));
        for path in [&plain, &linked] {
            fs::create_dir(path).unwrap();
        }
        fs::write(plain.join("a.wav"), "a").unwrap();
        symlink(plain.join("a.wav"), linked.join("a.wav")).unwrap();
        symlink(&linked, linked.join("back")).unwrap();

        assert_eq!(folder_token(&plain).unwrap(), folder_token(&linked).unwrap());
    }
}
