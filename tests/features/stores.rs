//! One suite for every database that keeps users.

use std::{pin::Pin, sync::Arc};

use coregate::{
    config::issuing::Database,
    control::accounts::store::{self, Change, Grant, Member, Noted, Revoked, Rotation, Store, User},
};

use crate::harness::{Directory, Postgres};

const NOW: u64 = 1_790_000_000;

type Case = (&'static str, fn(Both) -> Pin<Box<dyn Future<Output = ()>>>);

/// The same database as two gateways see it.
struct Both(Arc<dyn Store>, Arc<dyn Store>);

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        [$((stringify!($name), |Both(one, other)| Box::pin($name(one, other)))),*]
    };
}

const SUITE: [Case; 8] = cases![
    users_are_kept_as_they_are,
    a_user_is_changed_in_part,
    a_refresh_token_is_exchanged_once_and_its_copy_ends_the_family,
    of_two_that_exchange_a_token_at_once_one_is_first,
    a_family_is_found_by_each_of_its_tokens,
    a_subject_is_ended_with_all_its_families,
    revocations_are_read_in_order_and_each_once,
    what_is_over_is_forgotten_and_numbers_are_not_given_again,
];

/// Runs the suite, each case with a new database.
fn check(database: impl Fn(&str) -> Database) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for (name, case) in SUITE {
        let database = database(name);
        runtime.block_on(async {
            let open = async || store::open(&database, "https://gate/").await.expect("it can be opened");
            case(Both(open().await, open().await)).await;
        });
    }
}

#[test]
fn sqlite_keeps_users() {
    let directory = Directory::new();
    check(|name| Database::Sqlite(directory.path().join(name)));
}

#[test]
fn postgresql_keeps_users() {
    let postgres = Postgres::start();
    check(|name| Database::Postgres(postgres.create(name).into()));
}

fn user(name: &str) -> User {
    User {
        name: name.to_owned(),
        password: "$argon2id$…".to_owned(),
        roles: vec!["a \"role\"".to_owned(), "ü".to_owned()],
        disabled: false,
        created: NOW,
    }
}

fn grant(token: u8, family: u8, jti: &str) -> Grant {
    Grant {
        token: [token; 32],
        family: [family; 16],
        name: "ann".to_owned(),
        expires: NOW + 1000,
        jti: jti.to_owned(),
        jti_expires: NOW + 100,
    }
}

async fn revoked(store: &dyn Store, last: i64) -> Vec<Noted> {
    store.revoked(last, 100, NOW).await.expect("it answers")
}

/// The `jti`s that are revoked, in the order in which they were.
async fn revoked_tokens(store: &dyn Store) -> Vec<String> {
    let jti = |noted: Noted| match noted.what {
        Revoked::Token { jti, .. } => Some(jti),
        Revoked::Subject { .. } => None,
    };
    revoked(store, 0).await.into_iter().filter_map(jti).collect()
}

async fn users_are_kept_as_they_are(one: Arc<dyn Store>, other: Arc<dyn Store>) {
    assert_eq!(one.user("ann").await, Ok(None));
    for name in ["bob", "Ann", "ann", "ünal", "x' OR '1'='1"] {
        assert_eq!(one.add(user(name)).await, Ok(true), "{name}");
        assert_eq!(other.user(name).await, Ok(Some(user(name))), "{name}");
    }
    assert_eq!(other.add(user("ann")).await, Ok(false), "names are taken once");
    let names = async |after: &str, count| {
        let users = one.users(after, count).await.expect("it answers");
        users.into_iter().map(|user| user.name).collect::<Vec<_>>()
    };
    assert_eq!(names("", 3).await, ["Ann", "ann", "bob"]);
    assert_eq!(names("bob", 10).await, ["x' OR '1'='1", "ünal"]);
}

async fn a_user_is_changed_in_part(one: Arc<dyn Store>, other: Arc<dyn Store>) {
    one.add(user("ann")).await.expect("it answers");
    let change = Change { disabled: Some(true), ..Change::default() };
    assert_eq!(one.change("ann", change).await, Ok(true));
    assert_eq!(other.user("ann").await, Ok(Some(User { disabled: true, ..user("ann") })));
    let change = Change { password: Some("p".into()), roles: Some(Vec::new()), disabled: Some(false) };
    assert_eq!(one.change("ann", change).await, Ok(true));
    let changed = User { password: "p".into(), roles: Vec::new(), ..user("ann") };
    assert_eq!(other.user("ann").await, Ok(Some(changed.clone())));
    assert_eq!(one.change("bob", Change::default()).await, Ok(false));

    assert_eq!(one.rehash("ann", "other", "q").await, Ok(()));
    assert_eq!(other.user("ann").await, Ok(Some(changed.clone())), "it was changed meanwhile");
    assert_eq!(one.rehash("ann", "p", "q").await, Ok(()));
    assert_eq!(other.user("ann").await, Ok(Some(User { password: "q".into(), ..changed })));
}

async fn a_refresh_token_is_exchanged_once_and_its_copy_ends_the_family(
    one: Arc<dyn Store>,
    other: Arc<dyn Store>,
) {
    one.begin(grant(1, 1, "first")).await.expect("it answers");
    one.begin(grant(9, 9, "bystander")).await.expect("it answers");
    let done = Rotation::Done("ann".to_owned());
    assert_eq!(one.rotate([1; 32], grant(2, 0, "second"), NOW).await, Ok(done.clone()));
    assert_eq!(other.rotate([2; 32], grant(3, 0, "third"), NOW).await, Ok(done));
    assert_eq!(one.rotate([7; 32], grant(4, 0, "x"), NOW).await, Ok(Rotation::Unknown));
    assert_eq!(one.rotate([3; 32], grant(4, 0, "x"), NOW + 1000).await, Ok(Rotation::Unknown), "expired");
    assert!(revoked(&*one, 0).await.is_empty());

    let reused = Rotation::Reused("ann".to_owned());
    assert_eq!(one.rotate([1; 32], grant(4, 0, "x"), NOW).await, Ok(reused));
    let mut tokens = revoked_tokens(&*other).await;
    tokens.sort();
    assert_eq!(tokens, ["first", "second", "third"]);
    assert_eq!(other.rotate([3; 32], grant(4, 0, "x"), NOW).await, Ok(Rotation::Unknown));
    let bystander = other.rotate([9; 32], grant(8, 0, "y"), NOW).await;
    assert_eq!(bystander, Ok(Rotation::Done("ann".to_owned())));
}

async fn of_two_that_exchange_a_token_at_once_one_is_first(one: Arc<dyn Store>, other: Arc<dyn Store>) {
    one.begin(grant(1, 1, "first")).await.expect("it answers");
    let exchange = |store: Arc<dyn Store>, token| async move {
        store.rotate([1; 32], grant(token, 0, "next"), NOW).await.expect("it answers")
    };
    let both = tokio::join!(exchange(one, 2), exchange(other, 3));
    let first = Rotation::Done("ann".to_owned());
    let second = Rotation::Reused("ann".to_owned());
    assert!(both == (first.clone(), second.clone()) || both == (second, first), "{both:?}");
}

async fn a_family_is_found_by_each_of_its_tokens(one: Arc<dyn Store>, other: Arc<dyn Store>) {
    one.begin(grant(1, 1, "a")).await.expect("it answers");
    one.begin(grant(2, 2, "b")).await.expect("it answers");
    assert_eq!(other.end_family(Member::Access("a".into()), NOW).await, Ok(true));
    assert_eq!(other.end_family(Member::Access("a".into()), NOW).await, Ok(false));
    assert_eq!(other.end_family(Member::Refresh([2; 32]), NOW).await, Ok(true));
    assert_eq!(revoked_tokens(&*one).await, ["a", "b"]);
    assert_eq!(one.rotate([1; 32], grant(3, 0, "c"), NOW).await, Ok(Rotation::Unknown));
}

async fn a_subject_is_ended_with_all_its_families(one: Arc<dyn Store>, other: Arc<dyn Store>) {
    one.begin(grant(1, 1, "a")).await.expect("it answers");
    other.end_subject("ann", NOW + 1, NOW + 900).await.expect("it answers");
    let expected = Revoked::Subject { sub: "ann".into(), before: NOW + 1, until: NOW + 900 };
    let noted = revoked(&*one, 0).await;
    assert_eq!(noted.iter().map(|noted| &noted.what).collect::<Vec<_>>(), [&expected]);
    assert_eq!(one.rotate([1; 32], grant(2, 0, "b"), NOW).await, Ok(Rotation::Unknown));
}

async fn revocations_are_read_in_order_and_each_once(one: Arc<dyn Store>, other: Arc<dyn Store>) {
    for jti in ["a", "b", "c"] {
        one.revoke(jti, NOW + 100).await.expect("it answers");
    }
    let first = other.revoked(0, 2, NOW).await.expect("it answers");
    assert_eq!(first.len(), 2);
    let rest = revoked(&*other, first[1].number).await;
    assert_eq!(rest.len(), 1);
    assert_eq!(rest[0].what, Revoked::Token { jti: "c".into(), until: NOW + 100 });
    assert!(revoked(&*other, rest[0].number).await.is_empty());
}

async fn what_is_over_is_forgotten_and_numbers_are_not_given_again(
    one: Arc<dyn Store>,
    other: Arc<dyn Store>,
) {
    one.begin(grant(1, 1, "a")).await.expect("it answers");
    one.revoke("b", NOW + 100).await.expect("it answers");
    let last = revoked(&*one, 0).await[0].number;
    other.forget(NOW + 100).await.expect("it answers");
    assert!(one.revoked(0, 10, 0).await.expect("it answers").is_empty());
    let still = one.end_family(Member::Refresh([1; 32]), NOW + 101).await;
    assert_eq!(still, Ok(true), "a refresh token that is good stays");
    one.revoke("c", NOW + 500).await.expect("it answers");
    assert!(revoked(&*one, 0).await[0].number > last);
    other.forget(NOW + 1000).await.expect("it answers");
    assert_eq!(one.end_family(Member::Refresh([1; 32]), NOW).await, Ok(false));
}

#[test]
fn a_database_that_was_restarted_is_reached_again() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let postgres = Postgres::start();
    runtime.block_on(async {
        let store =
            store::open(&Database::Postgres(postgres.url().into()), "i").await.expect("it can be opened");
        postgres.end_connections();
        assert_eq!(store.user("ann").await, Ok(None));
    });
    let url = postgres.url().to_owned();
    drop(postgres);
    runtime.block_on(async {
        let error = store::open(&Database::Postgres(url.into()), "i").await.err().expect("nobody is there");
        assert!(error.0.contains("onnection refused"), "{}", error.0);
    });
}
