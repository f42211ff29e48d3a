//! Results that machines take from each other.

use std::fs;
use std::path::{Path, PathBuf};

use crate::small::{SMALL, small, states, write_script};
use crate::workplace::{Workplace, said};

/// The folder that is shared, and another machine's workplace with the same pipeline.
fn shared() -> (Workplace, Workplace, String) {
    let (one, other) = (small(), small());
    let address = one.path("shared").display().to_string();
    fs::create_dir(&address).unwrap();
    (one, other, address)
}

/// The files in a folder of the shared cache.
fn files(folder: &Path) -> Vec<PathBuf> {
    let inner = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        inner.flat_map(|folder| fs::read_dir(folder).unwrap()).map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn other_machine_takes_what_one_has_made() {
    let (one, other, address) = shared();
    one.run(&["--remote", &address]).done();

    let taken = other.run(&["--remote", &address]);
    let offline = small().run(&["--remote", &address, "--offline"]).done();

    assert_eq!(states(&taken.done()), ["cached"; 4]);
    assert!(taken.stderr.contains("last         fetched 1 files, "), "{}", taken.stderr);
    let text =
        |workplace: &Workplace| fs::read(workplace.path("artifacts/small/last/out/text")).unwrap();
    assert_eq!(text(&one), text(&other));
    assert_eq!(states(&other.run(&["--offline"]).done()), ["cached"; 4]);
    assert_eq!(states(&offline), ["ran"; 4]);
}

/// What is said of a run holds for one that takes results from the shared cache; nothing is taken for
/// saying it.
#[test]
fn forecast_knows_what_is_shared() {
    let (one, other, address) = shared();
    one.run(&["--until", "both", "--remote", &address]).done();
    let say = |verb: &[&str], more: &[&str]| {
        let arguments = [verb, &["--remote", &address], more].concat();
        other.command(&arguments).output().unwrap()
    };
    let text = |verb: &[&str], more: &[&str]| String::from_utf8(say(verb, more).stdout).unwrap();

    let plan = text(&["plan", "pipeline.yaml"], &[]);
    let offline = text(&["plan", "pipeline.yaml"], &["--offline"]);
    let why = text(&["why", "pipeline.yaml", "both"], &[]);
    let status = text(&["status", "pipeline.yaml"], &[]);

    let forecasts = |text: &str| -> Vec<String> {
        text.lines().filter_map(|line| Some(line.split_whitespace().nth(1)?.to_owned())).collect()
    };
    assert_eq!(forecasts(&plan), ["fetch", "fetch", "fetch", "run"], "{plan}");
    assert_eq!(forecasts(&offline), ["run"; 4], "{offline}");
    assert!(why.starts_with("both is in the shared cache"), "{why}");
    assert_eq!(status.matches("to be fetched").count(), 3, "{status}");
    assert_eq!(states(&other.run(&["--offline"]).done()), ["ran"; 4]);

    // It says so when it cannot know.
    fs::rename(one.path("shared"), one.path("away")).unwrap();
    let away = say(&["plan", "pipeline.yaml"], &[]);
    let stderr = String::from_utf8_lossy(&away.stderr);
    assert!(away.status.success() && stderr.contains("without the shared cache"), "{stderr}");
}

/// The address may stand in the pipeline, or in a profile of it.
#[test]
fn pipeline_says_where_the_shared_cache_is() {
    let (one, other, address) = shared();
    let text = format!("{SMALL}profiles:\n  team:\n    cache: {address}\n");
    fs::write(one.path("pipeline.yaml"), &text).unwrap();
    fs::write(other.path("pipeline.yaml"), format!("cache: {address}\n{SMALL}")).unwrap();
    one.run(&["--profile", "team"]).done();

    assert_eq!(states(&other.run(&[]).done()), ["cached"; 4]);
    assert_eq!(states(&small().run(&[]).done()), ["ran"; 4]);
}

#[test]
fn results_are_pushed_and_pulled_by_command() {
    let (one, other, address) = shared();
    one.run(&["--until", "both"]).done();
    let command = |verb: &'static str| ["cache", verb, "pipeline.yaml", "--remote", &*address];

    let pushed = said(&one, &command("push"));
    let again = said(&one, &command("push"));
    let pulled = said(&other, &command("pull"));

    assert!(
        pushed.starts_with("3 results are in both caches, 1 are not here; sent 3 files"),
        "{pushed}"
    );
    assert!(again.contains("sent 0 files, 0 B"), "{again}");
    assert!(
        pulled.starts_with("3 results are in both caches, 1 are not there; fetched 3 files"),
        "{pulled}"
    );
    assert!(!other.path("artifacts").exists());
    assert_eq!(states(&other.run(&[]).done()), ["cached", "cached", "cached", "ran"]);
    let nowhere = other.command(&["cache", "pull", "pipeline.yaml"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&nowhere.stderr);
    assert_eq!(nowhere.status.code(), Some(2));
    assert!(stderr.contains("`cache:`") && stderr.contains("`--remote`"), "{stderr}");
}

/// What is damaged in the shared cache is found out, made anew, and put right for the next machine.
#[test]
fn damage_in_the_shared_cache_reaches_nobody() {
    for kind in ["cas", "ac-2"] {
        for damage in ["", "other content"] {
            let (one, other, address) = shared();
            one.run(&["--remote", &address]).done();
            for file in files(&one.path("shared").join(kind)) {
                fs::write(file, damage).unwrap();
            }

            let run = other.run(&["--remote", &address]);
            let next = small().run(&["--remote", &address]).done();

            assert!(run.stderr.contains("does not trust its result"), "{}", run.stderr);
            assert_eq!(states(&run.done())[0], "ran", "{kind}");
            let text = fs::read_to_string(other.path("artifacts/small/left/out/text")).unwrap();
            assert_eq!(text, "left 1\n");
            assert_eq!(states(&next), ["cached"; 4], "{kind} {damage}");
        }
    }
}

/// A shared cache that cannot be used costs nothing but a word.
#[test]
fn failing_shared_cache_fails_no_run() {
    let (one, _, address) = shared();
    // Files stand where folders are needed, which holds for whoever runs this.
    for name in ["cas", "ac-2"] {
        fs::write(Path::new(&address).join(name), "").unwrap();
    }

    let run = one.run(&["--remote", &address]);

    assert_eq!(states(&run.done()), ["ran"; 4]);
    assert_eq!(run.stderr.matches("goes on without the shared cache").count(), 1, "{}", run.stderr);
    // One that is away is not made anew: that is for `cache push`.
    let below_a_file = format!("{address}/cas/x");
    for away in [below_a_file.as_str(), "away"] {
        let run = small().run(&["--remote", away]);
        assert_eq!(states(&run.done()), ["ran"; 4]);
        assert!(run.stderr.contains("goes on without the shared cache"), "{}", run.stderr);
        let pull = ["cache", "pull", "pipeline.yaml", "--remote", away];
        assert!(!one.command(&pull).output().unwrap().status.success(), "{away}");
    }
    assert!(!one.path("away").exists());
    let push = ["cache", "push", "pipeline.yaml", "--remote", "away"];
    assert!(said(&one, &push).starts_with("4 results"));
    let refused = one.run(&["--remote", "ftp://example"]);
    assert_eq!(refused.code, 2);
    assert!(
        refused.stderr.contains("`ftp://example` cannot be a shared cache"),
        "{}",
        refused.stderr
    );
}

/// Two machines make different results of the same: the one that came first counts for both.
#[test]
fn result_that_came_first_counts() {
    let (one, other, address) = shared();
    for workplace in [&one, &other] {
        write_script(workplace, "date +%N > $HEIMDALL_OUTPUT_OUT/text");
        workplace.run(&["--offline"]).done();
    }
    let command = ["cache", "push", "pipeline.yaml", "--remote", &*address];
    said(&one, &command);

    let output = other.command(&command).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let next = other.run(&[]).done();

    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("right        is not reproducible"), "{stderr}");
    let text =
        |workplace: &Workplace| fs::read(workplace.path("artifacts/small/right/out/text")).unwrap();
    assert_eq!(states(&next)[1], "cached");
    assert_eq!(text(&one), text(&other));
}

mod with_python {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::workplace::Ended;

    /// A server that speaks S3 on the loopback, with an empty bucket `shared`.
    pub(crate) struct Bucket {
        server: Child,
        port: u16,
    }

    impl Bucket {
        pub(crate) fn new() -> Self {
            let interpreter = std::env::var("HEIMDALL_TEST_PYTHON")
                .expect("HEIMDALL_TEST_PYTHON is set by cargo xtask test");
            // The port is free again when the server asks for it.
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let server = Command::new(interpreter)
                .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let bucket = Self { server, port };
            let answer = bucket.ask("PUT /shared HTTP/1.0\r\nContent-Length: 0\r\n\r\n");
            assert!(answer.contains(" 200 "), "{answer}");
            bucket
        }

        /// Sends a request as it stands, as soon as somebody listens.
        fn ask(&self, request: &str) -> String {
            let begun = Instant::now();
            let mut stream = loop {
                match TcpStream::connect(("127.0.0.1", self.port)) {
                    Ok(stream) => break stream,
                    Err(error) => {
                        assert!(begun.elapsed() < Duration::from_secs(60), "{error}");
                        std::thread::yield_now();
                    }
                }
            };
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        }

        fn run(&self, workplace: &Workplace, conditional: &str) -> Ended {
            let arguments = ["run", "pipeline.yaml", "--json", "--remote", "s3://shared/a/b"];
            let mut command = workplace.command(&arguments);
            self.introduce(&mut command).env("AWS_CONDITIONAL_PUT", conditional);
            let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            crate::workplace::ended(child)
        }

        /// Tells a program where the bucket is.
        pub(crate) fn introduce<'a>(&self, command: &'a mut Command) -> &'a mut Command {
            command
                .env("AWS_ENDPOINT", format!("http://127.0.0.1:{}", self.port))
                .env("AWS_ALLOW_HTTP", "true")
                .env("AWS_REGION", "us-east-1")
                .env("AWS_ACCESS_KEY_ID", "nobody-at-all")
                .env("AWS_SECRET_ACCESS_KEY", "nothing-worth-knowing")
        }
    }

    impl Drop for Bucket {
        fn drop(&mut self) {
            let _ = self.server.kill();
            let _ = self.server.wait();
        }
    }

    /// With servers that refuse what is there already, and with servers that cannot.
    #[test]
    #[ignore = "needs Python with moto"]
    fn bucket_is_shared() {
        for conditional in ["etag", "disabled"] {
            let bucket = Bucket::new();
            let (one, other) = (small(), small());
            let made = bucket.run(&one, conditional);

            let taken = bucket.run(&other, conditional);

            assert!(!made.stderr.contains("without the shared cache"), "{}", made.stderr);
            assert_eq!(states(&made.done()), ["ran"; 4]);
            assert_eq!(states(&taken.done()), ["cached"; 4], "{conditional}");
            let listed = bucket.ask("GET /shared?list-type=2 HTTP/1.0\r\n\r\n");
            assert_eq!(listed.matches("<Key>a/b/ac-2/").count(), 4, "{listed}");
        }
    }

    #[test]
    #[ignore = "needs Python with moto"]
    fn bucket_that_is_away_stops_nobody() {
        let bucket = Bucket::new();
        let workplace = small();
        bucket.ask("DELETE /shared HTTP/1.0\r\n\r\n");

        let run = bucket.run(&workplace, "etag");

        assert_eq!(states(&run.done()), ["ran"; 4]);
        assert_eq!(run.stderr.matches("without the shared cache").count(), 1, "{}", run.stderr);
        assert!(!run.stderr.contains("nothing-worth-knowing"), "{}", run.stderr);
    }
}

pub(crate) use with_python::Bucket;
