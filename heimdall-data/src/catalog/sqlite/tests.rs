//! Tests of catalogs that are files of SQLite.

use std::fs;

use tempfile::tempdir;

use super::*;
use crate::catalog::contract::{events, receivers};

#[tokio::test]
async fn rows_are_read_back_from_a_file_as_they_were_added() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("ca tälog?#%20.db");
    let catalog = Catalog::create(&path).await.unwrap();
    catalog.add_receivers(&receivers()).await.unwrap();
    let mut shuffled = events();
    shuffled.rotate_left(1);
    catalog.add_events(&shuffled).await.unwrap();
    catalog.close().await.unwrap();

    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let catalog = Catalog::open(&path).await.unwrap();
    assert_eq!(catalog.receivers().await.unwrap(), receivers());
    assert_eq!(catalog.events().await.unwrap(), events());
}

#[tokio::test]
async fn same_rows_give_the_same_bytes() {
    let folder = tempdir().unwrap();
    let (first, second) = (folder.path().join("first.db"), folder.path().join("second.db"));

    let catalog = Catalog::create(&first).await.unwrap();
    catalog.add_receivers(&receivers()).await.unwrap();
    catalog.add_events(&events()).await.unwrap();
    catalog.close().await.unwrap();

    // In other steps, another order, and with a failure in between.
    let catalog = Catalog::create(&second).await.unwrap();
    for receiver in receivers() {
        catalog.add_receivers(&[receiver]).await.unwrap();
    }
    for event in events().into_iter().rev() {
        catalog.add_events(std::slice::from_ref(&event)).await.unwrap();
        assert!(catalog.add_events(&[event]).await.is_err());
    }
    catalog.close().await.unwrap();

    assert!(fs::read(first).unwrap() == fs::read(second).unwrap());
}

#[tokio::test]
async fn nothing_is_written_over() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("catalog.db");
    fs::write(&path, "mine").unwrap();

    assert!(matches!(Catalog::create(&path).await, Err(DataError::AlreadyExists { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"mine");
    let nowhere = folder.path().join("no/such/catalog.db");
    assert!(matches!(Catalog::create(&nowhere).await, Err(DataError::Write { .. })));
}

#[tokio::test]
async fn file_that_is_no_catalog_is_refused_and_left_alone() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("catalog.db");
    assert!(matches!(Catalog::open(&path).await, Err(DataError::Read { .. })));
    assert!(!path.exists());

    let refused = async |expected: &str| match Catalog::open(&path).await {
        Err(DataError::NotACatalog { actual, .. }) => assert_eq!(actual, expected),
        other => panic!("{expected} gives {other:?}"),
    };
    fs::write(&path, "").unwrap();
    refused("an empty file").await;
    for size in [5, 600, 5000] {
        fs::write(&path, "hello".repeat(size / 5)).unwrap();
        refused("not an SQLite database").await;
    }
    fs::remove_file(&path).unwrap();
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let other = pool(options, 1).await.unwrap();
    sqlx::query("CREATE TABLE events (id INTEGER)").execute(&other).await.unwrap();
    other.close().await;
    refused("an SQLite database of something else").await;
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    refused("a folder").await;
}

#[tokio::test]
async fn catalog_of_another_version_is_refused() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("catalog.db");
    let catalog = Catalog::create(&path).await.unwrap();
    let Database::Sqlite(pool) = &catalog.database else { unreachable!("it is a file") };
    let later = "UPDATE _sqlx_migrations SET version = 7 WHERE version = 3";
    sqlx::query(later).execute(pool).await.unwrap();
    catalog.close().await.unwrap();

    let opened = Catalog::open(&path).await.unwrap_err();
    let connected = Catalog::connect(path.to_str().unwrap()).await.unwrap_err();

    for error in [opened, connected] {
        let is_refused = matches!(error, DataError::CatalogVersion { actual: 7, expected: 3, .. });
        assert!(is_refused, "{error:?}");
    }
}

#[tokio::test]
async fn opened_catalog_cannot_be_changed() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("catalog.db");
    Catalog::create(&path).await.unwrap().close().await.unwrap();

    let catalog = Catalog::open(&path).await.unwrap();

    let error = catalog.add_receivers(&receivers()).await.unwrap_err();
    assert!(matches!(error, DataError::Catalog { .. }), "{error:?}");
}

#[cfg(unix)]
#[tokio::test]
async fn catalog_is_read_through_a_link_into_a_folder_that_cannot_be_written() {
    use std::os::unix::fs::{PermissionsExt, symlink};

    let folder = tempdir().unwrap();
    let cache = folder.path().join("cache");
    fs::create_dir(&cache).unwrap();
    let path = cache.join("catalog.db");
    let catalog = Catalog::create(&path).await.unwrap();
    catalog.add_receivers(&receivers()).await.unwrap();
    catalog.close().await.unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o555)).unwrap();
    let link = folder.path().join("link.db");
    symlink(&path, &link).unwrap();

    let catalog = Catalog::open(&link).await.unwrap();
    assert_eq!(catalog.receivers().await.unwrap(), receivers());
    catalog.close().await.unwrap();

    fs::set_permissions(&cache, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(fs::read_dir(&cache).unwrap().count(), 1);
}

/// Every byte of a page may be hit; the answer is an error or the old rows, never a panic.
#[tokio::test]
async fn damaged_catalog_is_read_or_refused() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("catalog.db");
    let catalog = Catalog::create(&path).await.unwrap();
    catalog.add_receivers(&receivers()).await.unwrap();
    catalog.add_events(&events()).await.unwrap();
    catalog.close().await.unwrap();
    let good = fs::read(&path).unwrap();

    let mut refused = 0;
    for step in 0..200 {
        let mut bytes = good.clone();
        let at = step * bytes.len() / 200;
        let end = (at + 100).min(bytes.len());
        bytes[at..end].fill(0xa5);
        fs::write(&path, bytes).unwrap();
        match Catalog::open(&path).await {
            Err(_) => refused += 1,
            Ok(catalog) => {
                refused += u32::from(catalog.events().await.is_err());
                catalog.close().await.unwrap();
            }
        }
    }
    assert!(refused > 5, "only {refused} of 200 damages were noticed");
    fs::write(&path, &good[..good.len() / 2]).unwrap();
    let halved = Catalog::open(&path).await;
    let noticed = match halved {
        Err(_) => true,
        Ok(catalog) => catalog.events().await.is_err(),
    };
    assert!(noticed);
}
