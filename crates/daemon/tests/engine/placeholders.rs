//! Datasets that are made only to carry what is below.

use model::view::Placeholder;
use zfs::fake::{StreamFault, Verb};
use zfs::{PlaceholderEncryption, Zfs};

use crate::world::{Settings, World, filter, name, received};

async fn placeholder(world: &World, dataset: &str) -> Placeholder {
    world.target.zfs().dataset(&name(dataset)).await.unwrap().placeholder
}

/// A world in which `src/a/b` is replicated, `src/a` not yet.
async fn child_first() -> World {
    let mut world = World::new(Settings { filesystems: filter(&["src/a/b"]), ..Settings::default() });
    world.create(&["src/a", "src/a/b"]);
    world.snapshot("1", &["src/a", "src/a/b"]).await;
    world.run_well().await;
    assert_eq!(placeholder(&world, &received("src/a")).await, Placeholder::On);
    world.settings.filesystems = filter(&["src<", "!src"]);
    world.restart();
    world
}

#[tokio::test(start_paused = true)]
async fn a_placeholder_is_replaced_by_what_it_stood_for() {
    let world = child_first().await;
    world.run_well().await;
    assert_eq!(placeholder(&world, &received("src/a")).await, Placeholder::Off);
    world.assert_replicated("src/a").await;
    world.assert_replicated("src/a/b").await;
}

#[tokio::test(start_paused = true)]
async fn a_cut_while_it_is_replaced_is_resumed() {
    let world = child_first().await;
    world.write("src/a", "big", 1_000_000);
    world.snapshot("2", &["src/a"]).await;
    world.daemons.source_zfs.faults().break_stream(Verb::Send, 1, 500_000, StreamFault::Ends);
    let summary = world.run_well().await;
    assert!(summary.bytes < 1_300_000, "{summary:?}");
    world.assert_replicated("src/a").await;
    assert_eq!(placeholder(&world, &received("src/a")).await, Placeholder::Off);
}

#[tokio::test(start_paused = true)]
async fn one_that_lost_its_mark_in_a_crash_is_replaced_all_the_same() {
    let world = child_first().await;
    world.target.set_property(&name(&received("src/a")), "zrepl:placeholder", "off").unwrap();
    world.run_well().await;
    world.assert_replicated("src/a").await;
}

#[tokio::test(start_paused = true)]
async fn a_filesystem_of_somebody_else_is_never_replaced() {
    let world = World::new(Settings { attempts: 1, ..Settings::default() });
    world.create(&["src/a"]);
    world.snapshot("1", &["src/a"]).await;
    for dataset in ["dst/sink/me", "dst/sink/me/src", "dst/sink/me/src/a"] {
        world.target.create_filesystem(&name(dataset)).unwrap();
    }
    world.target.write_file(&name("dst/sink/me/src/a"), "precious", b"data").unwrap();
    assert_eq!(world.run().await.errors, 1);
    let failures = world.failures();
    assert!(failures[0].contains("exists and is not a placeholder"), "{failures:?}");
    assert_eq!(world.target.read_file(&name("dst/sink/me/src/a"), "precious"), Some(b"data".to_vec()));
}

#[tokio::test(start_paused = true)]
async fn without_a_word_on_encryption_only_the_clients_own_is_made() {
    let settings = || Settings { placeholders: None, attempts: 1, ..Settings::default() };
    let world = World::new(settings());
    world.create(&["src/a"]);
    world.snapshot("1", &["src/a"]).await;
    assert_eq!(world.run().await.errors, 1);
    assert_eq!(
        world.failures(),
        [
            "src/a: cannot create placeholder filesystem dst/sink/me/src: placeholder filesystem encryption handling is unspecified in receiver config"
        ]
    );
    assert!(world.target.zfs().dataset(&name("dst/sink/me")).await.is_err(), "nothing was made in vain");

    let world = World::new(Settings { filesystems: filter(&["src"]), ..settings() });
    world.write("src", "first", 1000);
    world.snapshot("1", &["src"]).await;
    world.run_well().await;
    assert_eq!(placeholder(&world, "dst/sink/me").await, Placeholder::On);
    world.assert_replicated("src").await;
}

#[tokio::test(start_paused = true)]
async fn placeholders_are_encrypted_as_the_job_says() {
    for (setting, encrypted) in [(PlaceholderEncryption::Inherit, true), (PlaceholderEncryption::Off, false)] {
        let world = World::new(Settings { placeholders: Some(setting), ..Settings::default() });
        let zfs = world.target.zfs();
        zfs.destroy_dataset(&name("dst/sink")).await.unwrap();
        world.target.create_encrypted(&name("dst/sink")).unwrap();
        world.create(&["src/a"]);
        world.snapshot("1", &["src/a"]).await;
        world.run_well().await;
        let encryption = zfs.dataset(&name("dst/sink/me/src")).await.unwrap().encryption;
        assert_eq!(encryption != model::view::Encryption::None, encrypted);
    }
}
