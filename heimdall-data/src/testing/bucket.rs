//! A server that speaks S3 on the loopback, and a wire to it that can be cut.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Name of the bucket that there is.
pub(crate) const BUCKET: &str = "heimdall-raw-iq";

/// Requests that need no signature: those that make a user with a key, and the bucket.
const FIRST_REQUESTS: &str = "4";

const POLICY: &str = "%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%5B%7B%22Effect%22%3A\
                      %22Allow%22%2C%22Action%22%3A%22s3%3A%2A%22%2C%22Resource%22%3A%22%2A%22%7D%5D%7D";

/// The server, with one empty bucket.
#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
    port: u16,
    key: Option<(String, String)>,
}

impl Server {
    /// Starts a server that takes signed requests of its one user, and no others.
    pub(crate) fn start() -> Self {
        let mut server = Self::spawn(free_port(), true);
        let iam = |action: &str| {
            let body = format!("Action={action}&UserName=user&Version=2010-05-08");
            format!(
                "POST / HTTP/1.0\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                 Authorization: AWS4-HMAC-SHA256 Credential=x/20240101/us-east-1/iam/aws4_request, \
                 SignedHeaders=host, Signature=0\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
        };
        server.ask(&iam("CreateUser"));
        server.ask(&iam(&format!("PutUserPolicy&PolicyName=all&PolicyDocument={POLICY}")));
        let answer = server.ask(&iam("CreateAccessKey"));
        let field = |name: &str| {
            let (_, rest) = answer.split_once(&format!("<{name}>")).unwrap();
            rest.split('<').next().unwrap().to_owned()
        };
        server.key = Some((field("AccessKeyId"), field("SecretAccessKey")));
        server.make_bucket();
        server
    }

    /// Starts a server at a port that hands out and takes everything, signed or not.
    pub(crate) fn open_to_all(port: u16) -> Self {
        let server = Self::spawn(port, false);
        server.make_bucket();
        server
    }

    fn spawn(port: u16, is_closed: bool) -> Self {
        let interpreter = std::env::var("HEIMDALL_TEST_PYTHON")
            .expect("HEIMDALL_TEST_PYTHON is set by cargo xtask test");
        let mut command = Command::new(interpreter);
        command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
        if is_closed {
            command.env("INITIAL_NO_AUTH_ACTION_COUNT", FIRST_REQUESTS);
        }
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { process, port, key: None }
    }

    fn make_bucket(&self) {
        let answer = self.ask(&format!("PUT /{BUCKET} HTTP/1.0\r\nContent-Length: 0\r\n\r\n"));
        assert!(answer.contains(" 200 "), "{answer}");
    }

    fn ask(&self, request: &str) -> String {
        self.send(request.as_bytes())
    }

    /// Sends a request as it stands, as soon as somebody listens.
    fn send(&self, request: &[u8]) -> String {
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
        stream.write_all(request).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Stores an object that anybody may read.
    pub(crate) fn publish(&self, path: &str, bytes: &[u8]) {
        let head = format!(
            "PUT /{BUCKET}/{path} HTTP/1.0\r\nx-amz-acl: public-read\r\nContent-Length: {}\r\n\r\n",
            bytes.len()
        );
        let answer = self.send(&[head.as_bytes(), bytes].concat());
        assert!(answer.contains(" 200 "), "{answer}");
    }

    /// Where the server is.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The variables with which the bucket can be used.
    pub(crate) fn environment(&self) -> BTreeMap<String, String> {
        let (id, secret) = self.key.clone().unwrap_or_default();
        let mut environment = environment(self.port);
        environment.insert("AWS_ACCESS_KEY_ID".to_owned(), id);
        environment.insert("AWS_SECRET_ACCESS_KEY".to_owned(), secret);
        environment
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The variables for a server on the loopback, with a key that nobody has.
pub(crate) fn environment(port: u16) -> BTreeMap<String, String> {
    [
        ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}")),
        ("AWS_ALLOW_HTTP", "true".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "nobody-at-all".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "nothing-worth-knowing".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// A port that is free again when it is asked for.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Passes connections on to a server, and cuts answers off, or lets them drip.
#[derive(Debug)]
pub(crate) struct Wire {
    port: u16,
    cuts: Arc<AtomicUsize>,
}

impl Wire {
    /// Lays a wire. The next `cuts` answers that are longer than `length` are cut off there; all
    /// answers take a pause after each 64 KiB.
    pub(crate) fn new(server_port: u16, cuts: usize, length: usize, pause: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let left = Arc::new(AtomicUsize::new(cuts));
        let cuts = Arc::clone(&left);
        // It ends with the process of the test.
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (client, left) = (connection.unwrap(), Arc::clone(&left));
                let server = TcpStream::connect(("127.0.0.1", server_port)).unwrap();
                let (mut up, mut up_to) =
                    (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut up, &mut up_to));
                std::thread::spawn(move || answer(server, client, &left, length, pause));
            }
        });
        Self { port, cuts }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Answers that are still to be cut off.
    pub(crate) fn cuts_left(&self) -> usize {
        self.cuts.load(Ordering::SeqCst)
    }
}

fn answer(
    mut server: TcpStream,
    mut client: TcpStream,
    left: &AtomicUsize,
    length: usize,
    pause: Duration,
) {
    let (mut buffer, mut passed) = (vec![0; 64 * 1024], 0);
    while let Ok(count) = server.read(&mut buffer) {
        passed += count;
        let is_cut = passed > length
            && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
        if count == 0 || is_cut || client.write_all(&buffer[..count]).is_err() {
            break;
        }
        std::thread::sleep(pause);
    }
    let _ = client.shutdown(std::net::Shutdown::Both);
    let _ = server.shutdown(std::net::Shutdown::Both);
}
