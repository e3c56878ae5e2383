use std::collections::BTreeMap;
use std::sync::PoisonError;

use async_trait::async_trait;
use model::version::CreateTxg;
use model::view::{DatasetKind, Encryption, Placeholder};
use model::{Guid, UnixTime, Version, VersionKind, VersionName};

use super::*;
use crate::handshake::Banner;

/// Has one filesystem with so many snapshots.
struct Lists(u64);

#[async_trait]
impl Endpoint for Lists {
    async fn list(&self) -> Result<View, CallError> {
        let version = |number| Version {
            kind: VersionKind::Snapshot,
            name: VersionName::parse(&format!("zrepl_20260101_000000_000-{number}")).unwrap(),
            guid: Guid(u64::MAX - number),
            createtxg: CreateTxg(number),
            creation: UnixTime(1_800_000_000),
            userrefs: 0,
        };
        let seen = FilesystemView {
            kind: DatasetKind::Filesystem,
            encryption: Encryption::None,
            placeholder: Placeholder::Unset,
            versions: (0..self.0).map(version).collect(),
            partial: None,
            protections: vec![],
        };
        Ok(View::without_protections(BTreeMap::from([("tank/a".parse().unwrap(), seen)])))
    }
}

#[tokio::test(start_paused = true)]
async fn a_listing_is_not_in_memory_for_longer_than_it_answers() {
    let peer = Arc::new(Peer::new(Arc::new(Lists(1)), Agreement::default(), Box::new(drop)));
    let first = Arc::downgrade(&peer.list(Duration::ZERO).await.unwrap());
    sleep(LISTING / 2).await;
    assert!(Arc::ptr_eq(&peer.list(LISTING).await.unwrap(), &first.upgrade().unwrap()));
    let second = Arc::downgrade(&peer.list(Duration::ZERO).await.unwrap());
    assert!(first.upgrade().is_none(), "the next one takes its place");
    sleep(LISTING - Duration::from_secs(1)).await;
    assert!(second.upgrade().is_some(), "its time counts from when it was made");
    sleep(Duration::from_secs(2)).await;
    assert!(second.upgrade().is_none() && peer.listing.lock().await.is_none());

    let last = Arc::downgrade(&peer.list(LISTING).await.unwrap());
    drop(peer);
    assert!(last.upgrade().is_none(), "nothing outlives the connection");
}

/// What is told when a client asks for the versions.
async fn told(snapshots: u64, agreed: Agreement) -> Vec<String> {
    let told = Arc::<std::sync::Mutex<Vec<String>>>::default();
    let notes = Arc::clone(&told);
    let notice = move |note: TooLong| notes.lock().unwrap_or_else(PoisonError::into_inner).push(note.to_string());
    let peer = Arc::new(Peer::new(Arc::new(Lists(snapshots)), agreed, Box::new(notice)));
    let request = pdu::ListFilesystemVersionsReq { filesystem: "tank/a".into() };
    let answer = Arc::clone(&peer).versions(request).await.unwrap();
    assert_eq!(answer.versions.len() as u64, snapshots, "it is answered all the same");
    peer.filesystems(pdu::ListFilesystemReq {}).await.unwrap();
    std::mem::take(&mut *told.lock().unwrap())
}

#[tokio::test]
async fn an_answer_that_zrepl_cannot_read_is_told() {
    assert_eq!(told(40_000, Agreement::default()).await, Vec::<String>::new());
    let [note] = &told(80_000, Agreement::default()).await[..] else { panic!("one note") };
    assert!(note.starts_with("the 80000 snapshots and bookmarks of \"tank/a\" take "), "{note}");
    let ours = Banner::of_this_program();
    assert_eq!(told(80_000, ours.agree(&ours).unwrap()).await, Vec::<String>::new());
}
