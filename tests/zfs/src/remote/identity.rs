//! Certificates that are not the right ones, shown to whole daemons.

use anyhow::{Result, ensure};
use daemon::preview::Wish;
use model::DatasetName;
use rcgen::{CertificateParams, date_time_ymd};

use super::certificates::{Folder, documented, pair, write_pair};
use super::{Machine, on_real_time};
use crate::body;
use crate::replication::rig::{Stage, Table};

pub(super) const CASES: &Table = &[("who_shows_a_wrong_certificate_gets_nothing", body!(wrong_certificates))];

/// Certificates by the names of their files.
struct Meeting {
    what: &'static str,
    client: &'static str,
    server_trusts: &'static str,
    server: &'static str,
    client_trusts: &'static str,
    /// Words that the client's side tells, and the server's.
    here: &'static str,
    there: &'static str,
}

/// What is right unless a meeting says otherwise.
const RIGHT: Meeting = Meeting {
    what: "",
    client: "client",
    server_trusts: "client",
    server: "server",
    client_trusts: "server",
    here: "",
    there: "",
};

const WRONG: [Meeting; 6] = [
    Meeting {
        what: "a client of the right name whose certificate is another one",
        client: "foreign client",
        here: "in the peer's `ca` file?",
        there: "vouches for its certificate `CN=client`",
        ..RIGHT
    },
    Meeting {
        what: "a client whose certificate has expired",
        client: "expired client",
        server_trusts: "expired client",
        here: "has expired or is not valid yet",
        there: "`CN=client` has expired: it was valid until 2002-01-01",
        ..RIGHT
    },
    Meeting {
        what: "a client whose certificate is trusted and whose name is not in the list",
        client: "tablet",
        server_trusts: "tablet",
        here: "it does not allow this client",
        there: "unauthorized client common name \"tablet\"",
        ..RIGHT
    },
    Meeting {
        what: "a server of the right name whose certificate is another one",
        server: "foreign server",
        here: "the one of this name there has another key",
        there: "refused",
        ..RIGHT
    },
    Meeting {
        what: "a server whose certificate has expired",
        server: "expired server",
        client_trusts: "expired server",
        here: "`CN=server` has expired: it was valid until 2002-01-01",
        there: "refused",
        ..RIGHT
    },
    Meeting {
        what: "a server of another name",
        server: "tablet",
        client_trusts: "tablet",
        here: "is for `tablet`, not for `server`",
        there: "refused",
        ..RIGHT
    },
];

fn expired(mut wanted: CertificateParams) -> CertificateParams {
    wanted.not_before = date_time_ymd(2001, 1, 1);
    wanted.not_after = date_time_ymd(2002, 1, 1);
    wanted
}

async fn wrong_certificates(stage: &Stage<'_>) -> Result<()> {
    on_real_time(stage);
    let folder = Folder::new(stage, "certificates")?;
    for name in ["server", "client", "tablet"] {
        pair(&folder, name)?;
    }
    for name in ["client", "server"] {
        write_pair(&folder, &format!("foreign {name}"), &documented(name)?)?;
        write_pair(&folder, &format!("expired {name}"), &expired(documented(name)?))?;
    }
    let fs = stage.fs_with("sender fs", &["1"]).await?;
    let root = stage.dst("clients")?;
    stage.world.create_filesystem(&root)?;
    for meeting in &WRONG {
        let (there, here) = machines(stage, &folder, &root, &fs, meeting).await?;
        let plan = here.daemon.preview(&Wish { job: None, estimate: false }).await?;
        let heard: Vec<String> = plan.jobs.iter().flat_map(|job| job.problems.clone()).collect();
        let what = meeting.what;
        ensure!(heard.iter().any(|text| text.contains(meeting.here)), "{what}: the client says {heard:?}");
        let told = there.diary.wait_for_problem().await?;
        ensure!(told.contains(meeting.there), "{what}: the server says {told}");
        // In earnest, too.
        here.daemon.wakeup("push job").await?;
        here.diary.wait_for("no connection to the receiver").await?;
        here.daemon.reset("push job").await?;
        let found = stage.world.zfs().list(&zfs::Scope::Trees(vec![root.clone()])).await?.datasets.len();
        ensure!(found == 1, "{what}: something was received");
        here.stop().await?;
        there.stop().await?;
    }

    let (there, here) = machines(stage, &folder, &root, &fs, &RIGHT).await?;
    ensure!(here.invoke_well("push job").await?.steps == 1, "the right ones work");
    here.stop().await?;
    ensure!(there.diary.problems().is_empty(), "{:?}", there.diary.problems());
    there.stop().await
}

/// A sink and a client of it.
async fn machines(
    stage: &Stage<'_>,
    folder: &Folder,
    root: &DatasetName,
    fs: &DatasetName,
    meeting: &Meeting,
) -> Result<(Machine, Machine)> {
    let there = Machine::start(
        stage,
        &format!(
            r#"
  - name: sink job
    type: sink
    root_fs: "{root}"
    serve: {{type: tls, listen: "127.0.0.1:0", {}, client_cns: [client]}}
    recv: {{placeholder: {{encryption: inherit}}}}
"#,
            folder.side(meeting.server, meeting.server_trusts)
        ),
    )?;
    let here = Machine::start(
        stage,
        &format!(
            r#"
  - name: push job
    type: push
    connect: {{type: tls, address: "127.0.0.1:{}", server_cn: server, {}}}
    filesystems: {{"{fs}": true}}
    snapshotting: {{type: manual}}
    pruning:
      keep_sender: [{{type: regex, regex: ".*"}}]
      keep_receiver: [{{type: regex, regex: ".*"}}]
"#,
            there.port().await?,
            folder.side(meeting.client, meeting.client_trusts)
        ),
    )?;
    Ok((there, here))
}
