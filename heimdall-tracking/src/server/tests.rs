//! What a client makes of a server's answers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::*;

/// A server that answers one request after the other, and counts them; it closes what comes after.
fn server(answers: &'static [&'static str]) -> (MlflowServer, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://ada:s3cret@{}/", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let number = counted.fetch_add(1, Ordering::SeqCst);
            let Some(answer) = answers.get(number) else { continue };
            // All of the request, so that closing the connection does not take the answer with it.
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut line, mut length) = (String::new(), 0);
            while reader.read_line(&mut line).unwrap() > 2 {
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            reader.read_exact(&mut vec![0; length]).unwrap();
            let (status, body) = answer.split_once(' ').unwrap();
            let length = body.len();
            let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n");
            let head = head + "retry-after: 0\r\nconnection: close\r\n\r\n";
            stream.write_all((head + body).as_bytes()).unwrap();
        }
    });
    (MlflowServer::new(&address, &Credentials::default()).unwrap(), count)
}

fn call() -> Call<'static> {
    Call::post("write metrics", "runs/log-batch", json!({ "run_id": "1" }))
}

#[tokio::test]
async fn call_is_repeated_until_the_server_can_answer() {
    let (server, count) = server(&[
        "500 ",
        "429 <html>",
        r#"503 {"error_code": "TEMPORARILY_UNAVAILABLE", "message": "busy"}"#,
        r#"200 {"answer": 42}"#,
    ]);

    let answer = server.call(call()).await.unwrap();

    assert_eq!((answer["answer"].as_i64(), count.load(Ordering::SeqCst)), (Some(42), 4));
}

#[tokio::test]
async fn call_that_does_more_each_time_is_not_repeated() {
    let (server, count) = server(&["500 ", r#"200 {}"#]);

    let error = server.call(call().once()).await.unwrap_err();

    assert!(error.is_temporary() && count.load(Ordering::SeqCst) == 1, "{error}");
}

#[tokio::test]
async fn final_answers_are_told_apart_and_not_asked_for_again() {
    struct Case {
        answers: &'static [&'static str],
        told: &'static str,
        concerns_entry: bool,
    }
    let cases = [
        Case {
            answers: &[r#"400 {"error_code": "INVALID_PARAMETER_VALUE", "message": "no"}"#],
            told: "INVALID_PARAMETER_VALUE: no",
            concerns_entry: true,
        },
        Case { answers: &["401 Who are you?"], told: "status 401", concerns_entry: false },
        Case { answers: &["200 <html>Welcome!"], told: "<html>Welcome!", concerns_entry: false },
        Case { answers: &["404 <html>"], told: "status 404", concerns_entry: false },
        Case { answers: &["200 null"], told: "null", concerns_entry: false },
    ];
    for Case { answers, told, concerns_entry } in cases {
        let (server, count) = server(answers);

        let error = server.call(call()).await.unwrap_err();

        assert!(error.to_string().contains(told), "{error}");
        assert_eq!(error.concerns_entry(), concerns_entry, "{error}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
        assert_eq!(count.load(Ordering::SeqCst), 1, "{error}");
    }
}

#[test]
fn addresses_that_are_none_of_a_server_are_refused() {
    for address in ["", "host:5000", "ftp://host", "http://", "file:///x"] {
        let error = MlflowServer::new(address, &Credentials::default()).unwrap_err();

        assert!(matches!(error, TrackingError::InvalidAddress { .. }), "{address}: {error}");
    }
    let server = MlflowServer::new("https://a:secret@host/mlflow/", &Credentials::default());
    assert_eq!(server.unwrap().address(), "https://host/mlflow");
}

#[test]
fn certificates_must_be_some() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, "nothing").unwrap();
    for path in [path, folder.path().join("absent")] {
        let credentials = Credentials { certificates: Some(path), ..Credentials::default() };

        let error = MlflowServer::new("https://host", &credentials).unwrap_err();

        assert!(matches!(error, TrackingError::Certificates { .. }), "{error}");
    }
}
