//! Two sides of this program, and one of them with a side that knows less.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use model::protection::{Protection, ProtectionKind, ProtectionPolicy};
use model::view::{DatasetKind, Encryption, FilesystemView, Placeholder, View};
use model::{CreateTxg, DatasetName, Guid, RetryClass, UnixTime, Version, VersionKind, VersionName, VersionRef};
use tokio::io::duplex;

use super::*;
use crate::data::DataClient;
use crate::frame::Limits;
use crate::handshake::Banner;
use crate::pdu::calls::{ConfirmReq, ConfirmRes};
use crate::service::*;
use crate::transport::{Connection, Dialer, Greeting, welcome};

fn dataset(name: &str) -> DatasetName {
    DatasetName::parse(name).unwrap()
}

fn snapshot(number: u64) -> Version {
    Version {
        kind: VersionKind::Snapshot,
        name: VersionName::parse(&format!("s{number}")).unwrap(),
        guid: Guid(number),
        createtxg: CreateTxg(number),
        creation: UnixTime(1_767_323_045),
        userrefs: 1,
    }
}

/// What zrepl's protocol cannot tell: a volume, a hold, a key.
fn view(filesystems: u64, snapshots: u64) -> View {
    let hold = Protection {
        kind: ProtectionKind::LastReceivedHold,
        version: snapshot(1).to_ref(),
        createtxg: snapshot(1).createtxg,
    };
    let seen = FilesystemView {
        kind: DatasetKind::Volume,
        placeholder: Placeholder::Off,
        encryption: Encryption::Encrypted { key_loaded: false },
        versions: Version::sorted((0..snapshots).map(snapshot).collect()),
        partial: None,
        protections: vec![hold],
    };
    let mut view = View::new((0..filesystems).map(|one| (dataset(&format!("tank/{one}")), seen.clone())).collect());
    view.unlisted.insert(dataset("tank/x"), "pool I/O is suspended".into());
    view
}

/// Notes down what it is asked for.
#[derive(Default)]
struct Fake {
    view: View,
    fails: Option<CallError>,
    asked: Mutex<Vec<String>>,
}

impl Fake {
    fn answer<T>(&self, asked: &impl std::fmt::Debug, answer: T) -> Result<T, CallError> {
        self.asked.lock().unwrap().push(format!("{asked:?}"));
        self.fails.clone().map_or(Ok(answer), Err)
    }
}

#[async_trait]
impl Endpoint for Fake {
    async fn list(&self) -> Result<View, CallError> {
        self.answer(&"list", self.view.clone())
    }

    async fn estimate(&self, request: &SendRequest) -> Result<Option<u64>, CallError> {
        self.answer(request, Some(1 << 40))
    }

    async fn send_completed(&self, request: &SendRequest) -> Result<(), CallError> {
        self.answer(request, ())
    }

    async fn confirm_received(&self, request: &ReceiveRequest) -> Result<(), CallError> {
        self.answer(request, ())
    }

    async fn destroy_snapshots(&self, requests: &[DestroyRequest]) -> Result<Vec<DestroyResult>, CallError> {
        let result = |request: &DestroyRequest| DestroyResult {
            filesystem: request.filesystem.clone(),
            results: request.snapshots.iter().zip(outcomes()).map(|(it, outcome)| (it.name.clone(), outcome)).collect(),
        };
        self.answer(&requests, requests.iter().map(result).collect())
    }

    async fn roll_back(&self, request: &RollBackRequest) -> Result<Vec<VersionName>, CallError> {
        self.answer(request, request.destroy.iter().map(|it| it.name.clone()).collect())
    }

    async fn rename_aside(&self, request: &RenameAsideRequest) -> Result<DatasetName, CallError> {
        self.answer(request, dataset("pool/tank/1.zrepl.aside.7"))
    }
}

fn outcomes() -> Vec<DestroyOutcome> {
    let (kept, failed) = (DestroyOutcome::Kept("it has a clone".into()), DestroyOutcome::Failed("it is busy".into()));
    vec![DestroyOutcome::Destroyed, kept, failed]
}

struct Here(Arc<Fake>, Banner);

#[async_trait]
impl Dialer for Here {
    async fn dial(&self) -> Result<Connection, CallError> {
        let (here, mut there) = duplex(1 << 16);
        let (endpoint, greeting) = (Arc::clone(&self.0), Greeting::from(self.1.clone()));
        tokio::spawn(async move {
            let (agreed, _) = welcome(&mut there, &greeting).await.unwrap();
            drop(serve(Box::new(there), endpoint, agreed, Box::new(drop)).await);
        });
        Ok(Box::new(here))
    }
}

fn old() -> Banner {
    Banner::with_extensions(vec![])
}

async fn remote(endpoint: Fake, ours: Banner, theirs: Banner) -> (Remote, Arc<Fake>) {
    let endpoint = Arc::new(endpoint);
    let dialer: Arc<dyn Dialer> = Arc::new(Here(Arc::clone(&endpoint), theirs));
    let greeting = Greeting::from(ours);
    let data = DataClient::new(Arc::clone(&dialer), greeting.clone(), Limits::default());
    let remote = Remote::connect(&*dialer, &greeting, data, Role::Receiver, |_| Err(String::new())).await;
    (remote.unwrap(), endpoint)
}

async fn between_new(endpoint: Fake) -> (Remote, Arc<Fake>) {
    remote(endpoint, Banner::of_this_program(), Banner::of_this_program()).await
}

fn received() -> ReceiveRequest {
    ReceiveRequest {
        filesystem: dataset("tank/1"),
        from: Some(snapshot(1).to_ref()),
        to: snapshot(2).to_ref(),
        clear_resume_token: true,
        protection: ProtectionPolicy::default(),
    }
}

fn roll_back() -> RollBackRequest {
    RollBackRequest {
        filesystem: dataset("tank/1"),
        to: snapshot(1).to_ref(),
        destroy: vec![snapshot(2).to_ref(), snapshot(3).to_ref()],
        discard_partial: true,
        protection: ProtectionPolicy::default(),
    }
}

fn rename() -> RenameAsideRequest {
    RenameAsideRequest { filesystem: dataset("tank/1"), newest: snapshot(9).to_ref(), below: vec![dataset("tank/1/b")] }
}

#[tokio::test]
async fn one_call_lists_what_the_endpoint_knows() {
    let (remote, endpoint) = between_new(Fake { view: view(3, 5), ..Fake::default() }).await;
    assert_eq!(remote.list().await, Ok(view(3, 5)));
    let mut some = view(3, 5);
    some.filesystems.retain(|name, _| name.as_str() == "tank/2");
    assert_eq!(remote.list_some(&[dataset("tank/2"), dataset("tank/none")]).await, Ok(some));
    assert_eq!(*endpoint.asked.lock().unwrap(), ["\"list\"", "\"list\""]);
}

#[tokio::test]
async fn a_large_host_is_listed_in_parts() {
    let large = view(2_000, 50);
    let (remote, _) = between_new(Fake { view: large.clone(), ..Fake::default() }).await;
    assert!(remote.list().await == Ok(large), "another view");
}

#[tokio::test]
async fn calls_that_zrepl_lacks_arrive_whole() {
    let (remote, endpoint) = between_new(Fake::default()).await;
    assert_eq!(remote.confirm_received(&received()).await, Ok(()));
    let gone: Vec<VersionName> = roll_back().destroy.into_iter().map(|it| it.name).collect();
    assert_eq!(remote.roll_back(&roll_back()).await, Ok(gone));
    assert_eq!(remote.rename_aside(&rename()).await, Ok(dataset("pool/tank/1.zrepl.aside.7")));
    let asked = [format!("{:?}", received()), format!("{:?}", roll_back()), format!("{:?}", rename())];
    assert_eq!(*endpoint.asked.lock().unwrap(), asked);
}

#[tokio::test]
async fn what_was_kept_on_purpose_is_told_apart_from_what_failed() {
    let (remote, endpoint) = between_new(Fake::default()).await;
    let snapshots = (1..4).map(|number| snapshot(number).to_ref()).collect();
    let one = DestroyRequest { filesystem: dataset("tank/1"), snapshots };
    let two = DestroyRequest { filesystem: dataset("tank/2"), ..one.clone() };
    let results = remote.destroy_snapshots(&[one.clone(), two.clone()]).await.unwrap();
    for (result, request) in results.iter().zip([&one, &two]) {
        assert_eq!(result.filesystem, request.filesystem);
        assert_eq!(result.results.iter().map(|it| it.1.clone()).collect::<Vec<_>>(), outcomes());
    }
    assert_eq!(endpoint.asked.lock().unwrap().len(), 1, "one request for both");
}

#[tokio::test]
async fn more_snapshots_of_a_filesystem_than_a_request_holds_are_destroyed_in_several() {
    let (remote, endpoint) = between_new(Fake::default()).await;
    let long = "s".repeat(150);
    let wanted = |number: u64| VersionRef {
        name: VersionName::parse(&format!("{long}{number}")).unwrap(),
        ..snapshot(number).to_ref()
    };
    let many = DestroyRequest { filesystem: dataset("tank/1"), snapshots: (0..35_000).map(wanted).collect() };
    let few = DestroyRequest { filesystem: dataset("tank/2"), snapshots: vec![wanted(1)] };
    let results = remote.destroy_snapshots(&[many.clone(), few.clone()]).await.unwrap();
    assert_eq!(results.len(), 2);
    for (result, request) in results.iter().zip([&many, &few]) {
        assert_eq!(result.filesystem, request.filesystem);
        let told = result.results.iter().map(|(name, _)| name);
        assert!(told.eq(request.snapshots.iter().map(|snapshot| &snapshot.name)), "{}", result.results.len());
        assert_eq!(result.results[0].1, DestroyOutcome::Destroyed);
    }
    assert!(endpoint.asked.lock().unwrap().len() > 3);
}

#[tokio::test]
async fn the_kind_of_an_error_survives() {
    let text = "dataset is busy".to_owned();
    for error in [
        CallError::Refused { class: RetryClass::Transient, message: text.clone() },
        CallError::Refused { class: RetryClass::Permanent, message: text.clone() },
        CallError::Refused { class: RetryClass::NeedsPerson, message: text.clone() },
        CallError::TargetModified(text.clone()),
    ] {
        let (remote, _) = between_new(Fake { fails: Some(error.clone()), ..Fake::default() }).await;
        assert_eq!(remote.list().await, Err(error.clone()));
        assert_eq!(remote.roll_back(&roll_back()).await, Err(error));
    }
}

#[tokio::test]
async fn with_an_older_side_nothing_of_it_is_used() {
    let needs_person = CallError::Refused { class: RetryClass::NeedsPerson, message: "dataset is busy".into() };
    for (ours, theirs) in [(old(), Banner::of_this_program()), (Banner::of_this_program(), old())] {
        let (remote, _) = remote(Fake { view: view(2, 3), ..Fake::default() }, ours.clone(), theirs.clone()).await;
        let seen = remote.list().await.unwrap();
        assert!(!seen.protections_known && seen.filesystems.len() == 2, "{seen:?}");
        assert!(remote.confirm_received(&received()).await.is_err());
        let refused = remote.roll_back(&roll_back()).await.unwrap_err();
        assert!(refused.to_string().contains("knows no such call"), "{refused}");
        assert!(remote.rename_aside(&rename()).await.is_err());
        let fails = Fake { fails: Some(needs_person.clone()), ..Fake::default() };
        let (remote, _) = self::remote(fails, ours, theirs).await;
        assert_eq!(remote.list().await.unwrap_err().class(), RetryClass::Transient, "by the text alone");
    }
}

/// zrepl has a call for it, so every peer can be asked.
#[tokio::test]
async fn any_side_tells_how_large_a_step_would_be() {
    let ReceiveRequest { filesystem, from, to, protection, .. } = received();
    let step = SendRequest { filesystem, from, to, resume_token: None, protection };
    let resumed = SendRequest { resume_token: Some("1-abc".into()), ..step.clone() };
    for theirs in [old(), Banner::of_this_program()] {
        let (remote, endpoint) = remote(Fake::default(), Banner::of_this_program(), theirs.clone()).await;
        assert_eq!(remote.estimate(&step).await, Ok(Some(1 << 40)));
        assert_eq!(remote.estimate(&resumed).await, Ok(None), "ZFS would have to look for what is missing");
        assert_eq!(*endpoint.asked.lock().unwrap(), [format!("{step:?}")]);
        let fails = Fake { fails: Some(CallError::permanent("no such snapshot")), ..Fake::default() };
        let (remote, _) = self::remote(fails, Banner::of_this_program(), theirs).await;
        assert_eq!(remote.estimate(&step).await, Ok(None), "no reason to give a step up");
    }
}

#[tokio::test]
async fn a_client_that_did_not_agree_is_told_so() {
    let lists = Banner::with_extensions(vec!["zr2-list/1".into()]);
    let (remote, _) = remote(Fake { view: view(1, 1), ..Fake::default() }, Banner::of_this_program(), lists).await;
    let seen = remote.list().await.unwrap();
    assert!(!seen.protections_known, "nobody could put them right");
    let refused = remote.call::<_, ConfirmRes>(method::CONFIRM, ConfirmReq::default()).await;
    assert!(refused.unwrap_err().to_string().contains("was not agreed on"));
    assert_eq!(seen.unlisted, BTreeMap::from([(dataset("tank/x"), "pool I/O is suspended".into())]));
}
