//! Tests of addresses of stores; what stores do is in the contract.

use super::*;

fn parse(address: &str) -> Result<StoreAddress, DataError> {
    address.parse()
}

#[test]
fn addresses_are_told_apart() {
    let s3 = |bucket: &str, prefix: &str| StoreAddress::S3 {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
    };
    for (address, expected, shown) in [
        ("a folder/ü", StoreAddress::Folder("a folder/ü".into()), "a folder/ü"),
        ("file:///srv/iq", StoreAddress::Folder("/srv/iq".into()), "/srv/iq"),
        ("s3://iq", s3("iq", ""), "s3://iq"),
        ("s3://iq/a/b/", s3("iq", "a/b"), "s3://iq/a/b"),
        ("memory:", StoreAddress::Memory, "memory:"),
        (
            "https://me:secret@host/iq/",
            StoreAddress::Http("https://me:secret@host/iq".to_owned()),
            "https://me:***@host/iq",
        ),
    ] {
        let parsed = parse(address).unwrap();

        assert_eq!(parsed, expected);
        assert_eq!(parsed.to_string(), shown);
    }
}

#[test]
fn what_is_no_address_is_refused_without_its_password() {
    for address in ["", "s3://", "s3:///path", "ftp://me:secret@host", "file://", "http://"] {
        let error = parse(address).unwrap_err().to_string();

        assert!(error.contains("no address of a store of objects"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn folder_that_is_not_there_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing");

    let error = StoreAddress::Folder(path.clone())
        .open(&BTreeMap::new(), StoreAddress::PATIENCE)
        .unwrap_err();

    assert!(matches!(error, DataError::Read { .. }), "{error:?}");
    assert!(!path.exists());
}

#[test]
fn file_without_certificates_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("authorities.pem");
    let environment = BTreeMap::from([(CERTIFICATES.to_owned(), path.display().to_string())]);
    let open = || parse("s3://iq").unwrap().open(&environment, StoreAddress::PATIENCE);

    assert!(matches!(open().unwrap_err(), DataError::Read { .. }));
    std::fs::write(&path, "no certificate").unwrap();
    let error = open().unwrap_err().to_string();

    assert!(error.contains("authorities.pem") && error.contains("PEM"), "{error}");
}
