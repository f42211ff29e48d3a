//! A server of PostgreSQL for tests: of the real program, in a folder of its own, gone afterwards.
//!
//! `HEIMDALL_TEST_DATABASE_URL` names another server, whose user may make databases.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

/// The user without rights that servers run as, where tests run as root: `nobody`.
const NOBODY: u32 = 65534;

/// Starts the server, and stops it when its standard input ends: so with the tests, however these
/// end. A shell has to do it, as what is static is never dropped.
const SUPERVISOR: &str = r#"
"$1/postgres" -D "$2/data" -k "$2" -c listen_addresses= -c fsync=off -c log_min_messages=log \
    </dev/null &
server=$!
cat >/dev/null
kill -INT $server
wait $server
"#;

/// A server that runs as long as this is there.
#[derive(Debug)]
pub(crate) struct Server {
    folder: TempDir,
    supervisor: Option<(Child, ChildStdin)>,
}

impl Server {
    /// Makes an empty cluster, and starts its server.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        if is_root() {
            chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let initdb = as_nobody(&programs().join("initdb"))
            .args(["--auth=trust", "--username=postgres", "--no-sync", "--locale=C.UTF-8", "-D"])
            .arg(folder.path().join("data"))
            .output()
            .unwrap();
        assert!(initdb.status.success(), "{}", String::from_utf8_lossy(&initdb.stderr));
        let mut server = Self { folder, supervisor: None };
        server.resume();
        server
    }

    /// Stops the server; its databases remain.
    pub(crate) fn stop(&mut self) {
        if let Some((mut supervisor, input)) = self.supervisor.take() {
            drop(input);
            supervisor.wait().unwrap();
        }
    }

    /// Starts the server again, and waits until it answers.
    pub(crate) fn resume(&mut self) {
        let mut supervisor = as_nobody(Path::new("/bin/sh"))
            .args(["-c", SUPERVISOR, "sh"])
            .args([programs(), self.folder.path().to_owned()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(supervisor.stderr.take().unwrap()).lines();
        let mut said = String::new();
        loop {
            let line = lines.next().unwrap_or_else(|| panic!("it did not start: {said}")).unwrap();
            if line.contains("database system is ready to accept connections") {
                break;
            }
            said += &format!("{line}\n");
        }
        // A pipe that nobody empties would stop the server in the end.
        std::thread::spawn(move || lines.for_each(drop));
        let input = supervisor.stdin.take().unwrap();
        self.supervisor = Some((supervisor, input));
    }

    /// The address of a database of this server.
    pub(crate) fn url(&self, database: &str) -> String {
        let folder = self.folder.path().display();
        format!("postgres:///{database}?host={folder}&user=postgres")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Makes an empty database, and returns its address.
pub(crate) fn new_database() -> String {
    static SERVER: OnceLock<Server> = OnceLock::new();
    static COUNT: AtomicU32 = AtomicU32::new(0);

    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("heimdall_test_{}_{count}", std::process::id());
    if let Ok(url) = std::env::var("HEIMDALL_TEST_DATABASE_URL") {
        run(&url, &format!("CREATE DATABASE {name}"));
        let (base, options) = url.split_once('?').unwrap_or((&url, ""));
        let (server, _) = base.rsplit_once('/').unwrap();
        return format!("{server}/{name}?{options}");
    }
    let server = SERVER.get_or_init(Server::start);
    run(&server.url("postgres"), &format!("CREATE DATABASE {name}"));
    server.url(&name)
}

/// Runs statements in a database.
pub(crate) fn run(url: &str, sql: &str) {
    let psql = Command::new("psql")
        .args([
            "--no-psqlrc",
            "--quiet",
            "--set=ON_ERROR_STOP=1",
            "--dbname",
            url,
            "--command",
            sql,
        ])
        .output()
        .expect("`psql` is installed by cargo xtask test");
    assert!(psql.status.success(), "{}", String::from_utf8_lossy(&psql.stderr));
}

/// The folder of the newest server that is installed.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let versions = versions.map(|version| version.unwrap().path().join("bin"));
    let newest = versions.filter(|bin| bin.join("initdb").exists()).max();
    newest.expect("PostgreSQL is installed by cargo xtask test")
}

/// A command that is not run as root, which servers of PostgreSQL refuse.
fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new(program);
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.current_dir("/");
    command
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}
