//! What a file or folder outside of the cache holds, as a token that changes when its content does.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::cache::{Cache, Digest, FileIdentity, PARALLEL_FILES_MIN, digest_of_file};
use crate::{PipelineError, replace};

/// Version of the record's format.
const RECORD_VERSION: u32 = 1;

/// A file that was changed so shortly before it was read may be changed again and look the same,
/// since clocks of file systems are coarse.
const UNSETTLED: Duration = Duration::from_millis(100);

/// What files looked like when they were last read, and what was in them.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Seen {
    version: u32,
    files: BTreeMap<String, (FileIdentity, Digest)>,
}

/// Returns a digest of what a file holds, or of the names and contents of all files in a folder; its
/// own name and the times of its files have no part in it. A link counts as what it leads to.
///
/// Files that look as they did when they were last read are not read again.
pub(crate) fn content_token(path: &Path, cache: &Cache) -> Result<Digest, PipelineError> {
    let path = fs::canonicalize(path).map_err(PipelineError::io("open", path))?;
    let record = cache.stat_path(&path);
    let before = read_record(&record);
    let mut paths = Vec::new();
    let is_file = path.is_file();
    if is_file {
        paths.push(String::new());
    } else {
        list(&path, &PathBuf::new(), &mut Vec::new(), &mut paths)?;
        paths.sort();
    }
    let look = |inner: &String| {
        let file = if is_file { path.clone() } else { path.join(inner) };
        look_at(&file, before.files.get(inner))
    };
    // Files that were read before are looked at faster one after the other, unless they are many.
    let are_known = paths.len() < PARALLEL_FILES_MIN
        && paths.iter().all(|inner| before.files.contains_key(inner));
    let looks = if are_known {
        paths.iter().map(look).collect::<Result<Vec<_>, PipelineError>>()?
    } else {
        paths.par_iter().map(look).collect::<Result<Vec<_>, PipelineError>>()?
    };

    let settled = paths.iter().zip(&looks).filter(|(_, look)| look.is_settled);
    let files = settled.map(|(path, look)| (path.clone(), (look.identity, look.digest)));
    let now = Seen { version: RECORD_VERSION, files: files.collect() };
    if now != before {
        write_record(&record, &now)?;
    }
    match looks.as_slice() {
        [only] if is_file => Ok(only.digest),
        _ => {
            let digests = looks.iter().map(|look| &look.digest);
            Ok(Digest::of_tree(paths.iter().map(String::as_str).zip(digests)))
        }
    }
}

/// What was found out about a file.
struct Look {
    identity: FileIdentity,
    digest: Digest,
    /// Whether a later change is sure to be seen.
    is_settled: bool,
}

fn look_at(file: &Path, before: Option<&(FileIdentity, Digest)>) -> Result<Look, PipelineError> {
    let now = SystemTime::now();
    let metadata = fs::metadata(file).map_err(PipelineError::io("look at", file))?;
    let identity = FileIdentity::from(&metadata);
    let is_settled = identity.is_older_than(now, UNSETTLED);
    let digest = match before {
        Some((before, digest)) if *before == identity => *digest,
        _ => digest_of_file(file).map_err(PipelineError::io("read", file))?,
    };
    Ok(Look { identity, digest, is_settled })
}

/// Reads a record; one that cannot be read is as good as none, since all it saves is work.
fn read_record(path: &Path) -> Seen {
    let record = fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    record.filter(|seen: &Seen| seen.version == RECORD_VERSION).unwrap_or_default()
}

fn write_record(path: &Path, record: &Seen) -> Result<(), PipelineError> {
    let json = serde_json::to_vec(record).expect("a record is plain data with string keys");
    replace::write(path, &json)
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

        let cache = Cache::open(&folder.path().join("cache"), None).unwrap();
        let folder_token = |path: &Path| content_token(path, &cache);
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

        let cache = Cache::open(&folder.path().join("cache"), None).unwrap();
        let token = |path: &Path| content_token(path, &cache).unwrap();
        assert_eq!(token(&plain), token(&linked));
    }

    /// A change is seen whether the file was remembered or not, with its length and its time of
    /// modification as they were.
    #[test]
    fn changed_file_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(&folder.path().join("cache"), None).unwrap();
        let file = folder.path().join("script.sh");
        fs::write(&file, "one").unwrap();
        let old = SystemTime::now() - Duration::from_secs(60);
        let set_time = || fs::File::options().write(true).open(&file).unwrap().set_modified(old);
        set_time().unwrap();
        let first = content_token(&file, &cache).unwrap();
        std::thread::sleep(2 * UNSETTLED);
        let remembered = content_token(&file, &cache).unwrap();
        let again = content_token(&file, &cache).unwrap();
        let is_remembered = !read_record(&cache.stat_path(&file)).files.is_empty();

        fs::write(&file, "two").unwrap();
        set_time().unwrap();

        assert!(first == remembered && first == again && is_remembered);
        assert_eq!(first, Digest::of(b"one"));
        assert_eq!(content_token(&file, &cache).unwrap(), Digest::of(b"two"));
    }
}
