use super::*;

#[test]
fn a_report_of_zrepl_0_7_is_read() {
    let report: Report = serde_json::from_str(
        r#"{"Jobs":{
          "_control":{"internal":null,"type":"internal"},
          "p":{"type":"push","push":{"Replication":{"StartAt":"2099-02-03T04:05:06.123456789+01:00",
             "FinishAt":"0001-01-01T00:00:00Z","WaitReconnectSince":"0001-01-01T00:00:00Z",
             "WaitReconnectUntil":"0001-01-01T00:00:00Z","WaitReconnectError":null,
             "Attempts":[{"State":"done","StartAt":"2099-02-03T04:05:06Z","FinishAt":"2099-02-03T04:05:07Z",
               "PlanError":null,"Filesystems":[]}]},
            "PruningSender":{"State":"Done","Error":"","Pending":[],"Completed":[
              {"Filesystem":"p/a","SnapshotList":[
                 {"Name":"a","Replicated":true,"Date":"2099-02-01T00:00:00Z"},
                 {"Name":"b","Replicated":false,"Date":"2099-02-02T00:00:00+01:00"}],
               "DestroyList":[{"Name":"a","Replicated":true,"Date":"2099-02-01T00:00:00Z"}],
               "SkipReason":"","LastError":""},
              {"Filesystem":"p","SnapshotList":null,"DestroyList":null,
               "SkipReason":"filesystem is placeholder","LastError":""}]},
            "PruningReceiver":null,
            "Snapshotting":{"Type":"periodic","Periodic":{"State":16,"SleepUntil":"2099-02-03T05:05:06Z",
               "Error":"","Progress":null},"Cron":null,"Manual":null}}},
          "s":{"type":"sink","sink":{"Snapper":null}}},
        "Global":{"ZFSCmds":{"Active":null},"Envconst":{"Entries":null},"OsEnviron":["SECRET=x"]}}"#,
    )
    .unwrap();
    let job = &report.jobs["p"];
    assert_eq!((&job.kind, &report.jobs["s"].kind), (&Kind::Push, &Kind::Sink));
    let pruned = &job.body.pruning_sender.as_ref().unwrap().completed[0];
    let time = |text: &str| Some(text.parse::<Timestamp>().unwrap());
    let Snapshots { count, newest, newest_replicated } = pruned.snapshot_list;
    assert_eq!(count, 2);
    assert_eq!(newest, time("2099-02-01T23:00:00Z"));
    assert_eq!(newest_replicated, time("2099-02-01T00:00:00Z"));
    assert_eq!(pruned.destroy_list, Destroyed { count: 1, first: Some("a".to_owned()) });
    let replication = job.body.replication.as_ref().unwrap();
    assert_eq!(replication.wait_reconnect_since, None, "a time that is not set");
    assert_eq!(report.global.daemon, Daemon::default());
}

#[test]
fn what_is_unknown_or_missing_does_not_stand_in_the_way() {
    let report: Report = serde_json::from_str(
        r#"{"Jobs":{"x":{"type":"mirror","mirror":{"A":1}},"y":{"type":"pull","pull":{"New":[],"Snapshotting":null,
            "Replication":{"Attempts":[{"Filesystems":[{"Info":{"Name":"a"},"Steps":null,"Mood":"good"}]}]}}}}}"#,
    )
    .unwrap();
    assert_eq!(report.jobs["x"].kind, Kind::Other("mirror".to_owned()));
    assert_eq!(report.jobs["y"].body.replication.as_ref().unwrap().attempts[0].filesystems[0].info.name, "a");
}
