//! Several processes at a time, and databases that go away.

use super::*;

/// How many connect and merge at once.
const PROCESSES: usize = 6;

/// All connect to a catalog that is not there, and bring the same: one of them adds it.
async fn same_brought_by_several_is_there_once(address: &str) {
    let mut tasks = Vec::new();
    for _ in 0..PROCESSES {
        let address = address.to_owned();
        tasks.push(tokio::spawn(async move {
            let catalog = Catalog::connect(&address).await.unwrap();
            catalog.merge(&receivers(), &events(), Approval::Approved).await.unwrap()
        }));
    }
    let mut added = 0;
    for task in tasks {
        let merged = task.await.unwrap();
        assert_eq!(merged.events_added + merged.events_known, 3);
        added += merged.events_added;
    }

    assert_eq!(added, 3);
    let catalog = Catalog::connect(address).await.unwrap();
    assert_eq!(catalog.events().await.unwrap(), events());
}

/// An event with recordings that no other has.
fn distinct(index: usize) -> EventEntry {
    let mut event = event(&format!("{index:02}"), "beacon");
    for recording in &mut event.recordings {
        recording.digest = format!("{index:064x}");
    }
    event
}

/// While one writes, others read what was there before.
async fn reader_sees_all_of_a_merge_or_nothing(address: &str) {
    let writer = Catalog::connect(address).await.unwrap();
    writer.add_receivers(&receivers()).await.unwrap();
    let reader = Catalog::connect(address).await.unwrap();
    let all: Vec<_> = (0..40).map(distinct).collect();

    let writing = tokio::spawn({
        let all = all.clone();
        async move { writer.merge(&[], &all, Approval::Approved).await.unwrap() }
    });
    let mut counts = vec![reader.events().await.unwrap().len()];
    while !writing.is_finished() {
        counts.push(reader.events().await.unwrap().len());
        tokio::task::yield_now().await;
    }
    writing.await.unwrap();
    counts.push(reader.events().await.unwrap().len());

    assert!(counts.iter().all(|count| [0, 40].contains(count)), "{counts:?}");
    assert_eq!(counts.last(), Some(&40));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_write_one_file() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("catalog.db");

    same_brought_by_several_is_there_once(path.to_str().unwrap()).await;
    reader_sees_all_of_a_merge_or_nothing(folder.path().join("other.db").to_str().unwrap()).await;
}

#[tokio::test]
async fn address_of_something_else_is_refused() {
    for (address, reason) in [
        ("mysql://someone:secret@host/catalog", "`postgres://…`"),
        ("postgres://someone:secret@host:port/catalog", "port"),
    ] {
        let error = Catalog::connect(address).await.unwrap_err().to_string();

        assert!(error.contains(reason), "{error}");
        assert!(!error.contains("secret") && error.contains("someone:***@host"), "{error}");
    }
}

/// A server that is not there is told at once, by its address and without its password.
#[tokio::test]
async fn server_that_is_not_there_is_named() {
    // The port is free again when it is tried.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("postgres://someone:secret-word@127.0.0.1:{port}/catalog");

    let error = Catalog::connect(&address).await.unwrap_err();

    let text = format!("{error}: {}", std::error::Error::source(&error).unwrap());
    assert!(text.contains(&format!("someone:***@127.0.0.1:{port}/catalog")), "{text}");
    assert!(text.contains("refused") && !text.contains("secret-word"), "{text}");
}

mod with_postgres {
    use std::time::Duration;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs PostgreSQL"]
    async fn several_write_one_database() {
        same_brought_by_several_is_there_once(&postgres::new_database()).await;
        reader_sees_all_of_a_merge_or_nothing(&postgres::new_database()).await;
    }

    /// What is asked in the meantime is answered when it is back.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs PostgreSQL"]
    async fn database_may_go_away_for_five_seconds() {
        let mut server = postgres::Server::start();
        let catalog = Catalog::connect(&server.url("postgres")).await.unwrap();
        catalog.merge(&receivers(), &events()[..1], Approval::Approved).await.unwrap();

        server.stop();
        let back = tokio::task::spawn_blocking(move || {
            std::thread::sleep(Duration::from_secs(5));
            server.resume();
            server
        });
        let (receivers, events) = (receivers(), events());
        let (listed, merged) =
            tokio::join!(catalog.events(), catalog.merge(&receivers, &events, Approval::Approved),);

        let merged = merged.unwrap();
        assert_eq!((merged.events_added, merged.events_known), (2, 1));
        assert!([&events[..1], &events].contains(&&*listed.unwrap()));
        assert_eq!(catalog.events().await.unwrap(), events);
        drop(back.await.unwrap());
    }

    #[tokio::test]
    #[ignore = "needs PostgreSQL"]
    async fn database_that_is_not_there_is_named() {
        let address = postgres::new_database().replace("heimdall_test", "no_such");

        let error = Catalog::connect(&address).await.unwrap_err();

        let text = format!("{error}: {}", std::error::Error::source(&error).unwrap());
        assert!(text.contains("be reached at postgres:///no_such"), "{text}");
        assert!(text.contains("does not exist"), "{text}");
    }
}
