//! The schema goes up and down, and rows survive.

use sqlx::{PgPool, SqlitePool};

use super::*;

/// What the schema of SQLite consists of.
async fn sqlite_schema(pool: &SqlitePool) -> Vec<(String,)> {
    sqlx::query_as(
        "SELECT type || ' ' || name || ' ' || coalesce(sql, '') FROM sqlite_master
         WHERE name NOT LIKE '%_sqlx_migrations%' ORDER BY type, name",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

/// What the schema of PostgreSQL consists of.
async fn postgres_schema(pool: &PgPool) -> Vec<(String,)> {
    sqlx::query_as(
        "SELECT concat_ws(' ', table_name, column_name, data_type, collation_name, is_nullable)
         FROM information_schema.columns
         WHERE table_schema = 'heimdall_catalog' AND table_name <> '_sqlx_migrations'
         UNION ALL
         SELECT concat_ws(' ', conrelid::regclass, conname, pg_get_constraintdef(oid))
         FROM pg_constraint
         WHERE connamespace = 'heimdall_catalog'::regnamespace
               AND conrelid <> 'heimdall_catalog._sqlx_migrations'::regclass
         UNION ALL
         SELECT indexdef FROM pg_indexes
         WHERE schemaname = 'heimdall_catalog' AND tablename <> '_sqlx_migrations'
         ORDER BY 1",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

/// Goes down to each version and up again; `$schema` is the same after as before, and nothing is
/// left at the bottom.
macro_rules! goes_both_ways {
    ($catalog:expr, $database:path, $migrations:expr, $schema:path) => {{
        let $database(pool) = &$catalog.database else { unreachable!("it was just made") };
        let expected = $schema(pool).await;
        assert!(expected.len() > 10, "{expected:?}");
        for version in (0..sqlite::newest()).rev() {
            $migrations.undo(pool, version).await.unwrap();
            let below = $schema(pool).await;
            assert_ne!(below, expected, "version {version}");
            assert!(version > 0 || below.is_empty(), "{below:?} is left over");
            $migrations.run(pool).await.unwrap();
            assert_eq!($schema(pool).await, expected, "version {version}");
        }
    }};
}

/// Goes down by one version and connects again, as if an earlier release had made the catalog.
macro_rules! rows_survive {
    ($catalog:expr, $address:expr, $database:path, $migrations:expr) => {{
        let before: Vec<_> =
            events().into_iter().map(|event| EventEntry { levels: Vec::new(), ..event }).collect();
        $catalog.add_receivers(&receivers()).await.unwrap();
        $catalog.add_events(&before).await.unwrap();
        let $database(pool) = &$catalog.database else { unreachable!("it was just made") };
        $migrations.undo(pool, sqlite::newest() - 1).await.unwrap();
        $catalog.close().await.unwrap();

        let catalog = Catalog::connect($address).await.unwrap();

        assert_eq!(catalog.events().await.unwrap(), before);
    }};
}

#[tokio::test]
async fn schema_of_sqlite_goes_up_and_down() {
    let catalog = Catalog::in_memory().await.unwrap();

    goes_both_ways!(catalog, Database::Sqlite, sqlite::MIGRATIONS, sqlite_schema);
}

#[tokio::test]
async fn rows_in_sqlite_survive_a_newer_release() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("catalog.db");
    let address = path.to_str().unwrap();
    let catalog = Catalog::connect(address).await.unwrap();

    rows_survive!(catalog, address, Database::Sqlite, sqlite::MIGRATIONS);
}

/// Both databases have the same versions of the same tables.
#[test]
fn versions_are_the_same_in_both_databases() {
    let versions = |migrator: &sqlx::migrate::Migrator| -> Vec<_> {
        let name = |m: &sqlx::migrate::Migration| (m.version, m.description.clone().into_owned());
        migrator.iter().map(name).collect()
    };

    assert_eq!(versions(&sqlite::MIGRATIONS), versions(&super::super::postgres::MIGRATIONS));
}

mod with_postgres {
    use super::super::super::postgres::MIGRATIONS;
    use super::*;

    #[tokio::test]
    #[ignore = "needs PostgreSQL"]
    async fn schema_of_postgres_goes_up_and_down() {
        let catalog = Catalog::connect(&postgres::new_database()).await.unwrap();

        goes_both_ways!(catalog, Database::Postgres, MIGRATIONS, postgres_schema);
    }

    #[tokio::test]
    #[ignore = "needs PostgreSQL"]
    async fn rows_in_postgres_survive_a_newer_release() {
        let address = postgres::new_database();
        let catalog = Catalog::connect(&address).await.unwrap();

        rows_survive!(catalog, &address, Database::Postgres, MIGRATIONS);
    }

    #[tokio::test]
    #[ignore = "needs PostgreSQL"]
    async fn catalog_of_a_later_release_is_refused() {
        let address = postgres::new_database();
        let catalog = Catalog::connect(&address).await.unwrap();
        catalog.close().await.unwrap();
        let later = "UPDATE heimdall_catalog._sqlx_migrations SET version = 7 WHERE version = 3";
        postgres::run(&address, later);

        let error = Catalog::connect(&address).await.unwrap_err();

        let is_refused = matches!(error, DataError::CatalogVersion { actual: 7, expected: 3, .. });
        assert!(is_refused, "{error:?}");
    }
}
