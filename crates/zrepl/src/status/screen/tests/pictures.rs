//! Screens, to be read.

use expect_test::{Expect, expect};

use super::stories::{failed, idle, large, planning_error, reconnecting, sending};
use super::*;

fn looks(mut theatre: Theatre, expected: &Expect) {
    expected.assert_eq(&theatre.picture());
}

#[test]
fn all_is_well() {
    looks(
        Theatre::new(80, 24, &idle()),
        &expect![[r#"
            zrepl 0.8.0, started 1d 1h ago                                          04:05:06
            == Jobs ========================================================================
              JOB            STATE    LAG   LAST OK     NEXT       NEWEST  TYPE
            > home_to_vault  ok       none  3m 59s ago  in 5m 56s  4m 4s   push
              vault          serves                                        sink
              (daemon)       answers                                       daemon
            -- home_to_vault, push ------------------------------------------------ 1-16/19
            ok; last success 3m 59s ago (04:01:07); next run in 5m 56s (04:11:02); the
            receiver is up to date; newest snapshots 4m 4s old
            invocation 12: 04:01:03, 3.7s: 3 filesystems, 2 steps with 100.0 MiB,
            3 snapshots destroyed

            Replication: done, 04:01:03 to 04:01:06 (3s)
              filesystems 3: 2 done, 1 up to date
                done       tank/home         1/1  100.0 MiB
                done       tank/home/photos  1/1        0 B

            Pruning of the sender: done, 2 snapshots destroyed
                done       tank/home  2 of 12 snapshots

            Pruning of the receiver: done, 1 snapshot destroyed
                done       tank/home  @zrepl_000, 1 of 100 snapshots

            ? help  q quit  Tab focus  / filter  f find  S signal  E failed job  e errors"#]],
    );
    looks(
        Theatre::new(120, 40, &idle()),
        &expect![[r#"
            zrepl 0.8.0, started 1d 1h ago                                                                                  04:05:06
            == Jobs ================================================================================================================
              JOB            STATE    LAG   LAST OK     NEXT       NEWEST  TYPE
            > home_to_vault  ok       none  3m 59s ago  in 5m 56s  4m 4s   push
              vault          serves                                        sink
              (daemon)       answers                                       daemon
            -- home_to_vault, push -------------------------------------------------------------------------------------------------
            ok; last success 3m 59s ago (04:01:07); next run in 5m 56s (04:11:02); the receiver is up to date; newest snapshots
            4m 4s old
            invocation 12: 04:01:03, 3.7s: 3 filesystems, 2 steps with 100.0 MiB, 3 snapshots destroyed

            Replication: done, 04:01:03 to 04:01:06 (3s)
              filesystems 3: 2 done, 1 up to date
                done       tank/home         1/1  100.0 MiB
                done       tank/home/photos  1/1        0 B

            Pruning of the sender: done, 2 snapshots destroyed
                done       tank/home  2 of 12 snapshots

            Pruning of the receiver: done, 1 snapshot destroyed
                done       tank/home  @zrepl_000, 1 of 100 snapshots

            Snapshotting: waits for its time
              next round in 5m 56s (04:11:02)
              last round zrepl_2: 2 taken














            ? help  q quit  Tab focus  / filter  f find  S signal  E failed job  e errors  a all  w wrap  M list  r refresh"#]],
    );
    looks(
        Theatre::new(200, 60, &idle()),
        &expect![[r#"
            zrepl 0.8.0, started 1d 1h ago                                                                                                                                                                  04:05:06
            == Jobs ================================================================================================================================================================================================
              JOB            STATE    LAG   LAST OK     NEXT       NEWEST  TYPE
            > home_to_vault  ok       none  3m 59s ago  in 5m 56s  4m 4s   push
              vault          serves                                        sink
              (daemon)       answers                                       daemon
            -- home_to_vault, push ---------------------------------------------------------------------------------------------------------------------------------------------------------------------------------
            ok; last success 3m 59s ago (04:01:07); next run in 5m 56s (04:11:02); the receiver is up to date; newest snapshots 4m 4s old
            invocation 12: 04:01:03, 3.7s: 3 filesystems, 2 steps with 100.0 MiB, 3 snapshots destroyed

            Replication: done, 04:01:03 to 04:01:06 (3s)
              filesystems 3: 2 done, 1 up to date
                done       tank/home         1/1  100.0 MiB
                done       tank/home/photos  1/1        0 B

            Pruning of the sender: done, 2 snapshots destroyed
                done       tank/home  2 of 12 snapshots

            Pruning of the receiver: done, 1 snapshot destroyed
                done       tank/home  @zrepl_000, 1 of 100 snapshots

            Snapshotting: waits for its time
              next round in 5m 56s (04:11:02)
              last round zrepl_2: 2 taken



































            ? help  q quit  Tab focus  / filter  f find  S signal  E failed job  e errors  a all  w wrap  M list  r refresh"#]],
    );
}

#[test]
fn bytes_come() {
    let mut theatre = Theatre::new(80, 24, &sending(20 << 20));
    theatre.report(10, &sending(40 << 20));
    looks(
        theatre,
        &expect![[r#"
            zrepl 0.8.0, started 1d 1h ago                                          04:05:16
            == Jobs ========================================================================
              JOB            STATE        LAG         LAST OK      NEXT       NEWEST  TYPE
            > home_to_vault  sending 72%  1 not sent  11m 50s ago  in 9m 38s  22s     push
              (daemon)       answers                                                  daemon
            -- home_to_vault, push ------------------------------------------------ 1-17/21
            sending 72%; last success 11m 50s ago (03:53:26); next run in 9m 38s (04:14:54);
            the receiver is behind by 10m; not replicated: 1 of 2 filesystems
            (tank/home/photos); newest snapshots 22s old
            invocation 13: since 04:04:54, for 22s

            Replication: sending, since 04:04:54 (22s)
              [=====================>--------] 80.1 MiB / 110.1 MiB, 2.0 MiB/s, 15s left,
              2/4 steps
              filesystems 4: 1 working, 1 waiting, 1 done, 1 up to date
              * sends      tank/home         1/2  80.0 MiB / 100.0 MiB  2.0 MiB/s, 10s left…
                done       tank/home/mail    1/1               2.0 KiB
                waits      tank/home/photos  0/1        0 B / 10.0 MiB  in full @c

            Pruning: not started

            Snapshotting: waits for its time
              next round in 9m 38s (04:14:54)
            ? help  q quit  Tab focus  / filter  f find  S signal  E failed job  e errors"#]],
    );
    let mut theatre = Theatre::new(120, 40, &sending(20 << 20));
    theatre.report(10, &sending(40 << 20));
    looks(
        theatre,
        &expect![[r#"
            zrepl 0.8.0, started 1d 1h ago                                                                                  04:05:16
            == Jobs ================================================================================================================
              JOB            STATE        LAG         LAST OK      NEXT       NEWEST  TYPE
            > home_to_vault  sending 72%  1 not sent  11m 50s ago  in 9m 38s  22s     push
              (daemon)       answers                                                  daemon
            -- home_to_vault, push -------------------------------------------------------------------------------------------------
            sending 72%; last success 11m 50s ago (03:53:26); next run in 9m 38s (04:14:54); the receiver is behind by 10m;
            not replicated: 1 of 2 filesystems (tank/home/photos); newest snapshots 22s old
            invocation 13: since 04:04:54, for 22s

            Replication: sending, since 04:04:54 (22s)
              [=====================>--------] 80.1 MiB / 110.1 MiB, 2.0 MiB/s, 15s left, 2/4 steps
              filesystems 4: 1 working, 1 waiting, 1 done, 1 up to date
              * sends      tank/home         1/2  80.0 MiB / 100.0 MiB  2.0 MiB/s, 10s left  @b => @c
                done       tank/home/mail    1/1               2.0 KiB
                waits      tank/home/photos  0/1        0 B / 10.0 MiB  in full @c

            Pruning: not started

            Snapshotting: waits for its time
              next round in 9m 38s (04:14:54)

            Running commands
                  18s zfs send -vP -i @b tank/home@c
                  18s zfs receive -s vault/backup/host/tank/home














            ? help  q quit  Tab focus  / filter  f find  S signal  E failed job  e errors  a all  w wrap  M list  r refresh"#]],
    );
}

#[test]
fn much_failed() {
    looks(
        Theatre::new(120, 40, &failed()),
        &expect![[r#"
            zrepl 0.8.0, started 1d 1h ago                                                                                  04:05:06
            == Jobs, 1 with errors =================================================================================================
              JOB            STATE     LAG         LAST OK    NEXT   NEWEST  TYPE    ERROR
            > home_to_vault  6 errors  1 not sent  1d 1h ago  in 5m  4m 4s   push    tank/home/mail: the two sides have diverged: t…
              (daemon)       answers                                         daemon
            -- home_to_vault, push -------------------------------------------------------------------------------------------------
            6 errors; last success 1d 1h ago (2099-02-02 03:05:06); next run in 5m (04:10:06); the receiver is behind by 1d;
            not replicated: 1 of 2 filesystems (tank/home/mail); newest snapshots 4m 4s old
            invocation 14: 04:04:02, 3.7s: 3 filesystems, 2 steps with 100.0 MiB, 3 snapshots destroyed, with errors

            Replication: failed for 3 of 3 filesystems, 04:04:02 to 04:04:06 (4s)
              filesystems 3: 2 failed, 1 to be tried again
              ! failed     tank/home         0/1  1.0 KiB / 2.0 KiB
                zfs receive ended with exit status 1:
                cannot receive incremental stream: dataset is busy
                see `zfs holds` for what keeps it
              ! failed     tank/home/mail
                the two sides have diverged: the newest common version is @a
              ! again      tank/home/photos  0/1  0 B, size unknown  @a => @b
                connection reset by peer

            Pruning of the sender: failed, 2 snapshots tried
              ! failed     tank/home
                @zrepl_000: dataset is busy

            Pruning of the receiver: planning failed
              cannot reach the receiver

            Snapshotting: failed, tries again
              hooks failed for 1 of 2 filesystems
              next round in 5m (04:10:06)
              last round zrepl_2: 1 taken, 1 with errors
              ! error      tank/home@zrepl_2  4.0s
                01 [Ok                  ] [   0.012s]   [Pre     ]  /usr/local/bin/quiesce
                02 [Err                 ] [   0.105s] ! [Post    ]  /usr/local/bin/flush: exit status: 7

            ! holds or bookmarks could not be made or removed 2 times since the daemon started (the last one: hold zrepl_STEP_J_x on
              tank/home@b: dataset is busy); `zrepl zfs-abstraction list` shows what there is

            ? help  q quit  Tab focus  / filter  f find  S signal  E failed job  e errors  a all  w wrap  M list  r refresh"#]],
    );
    let mut narrow = Theatre::new(60, 30, &failed());
    narrow.press(KeyCode::Char('M'));
    narrow.press(KeyCode::Char('w'));
    looks(
        narrow,
        &expect![[r#"
            zrepl 0.8.0, started 1d 1h ago                      04:05:06
            == home_to_vault, push ============================ 1-27/42
            6 errors; last success 1d 1h ago (2099-02-02 03:05:06); next
            run in 5m (04:10:06); the receiver is behind by 1d;
            not replicated: 1 of 2 filesystems (tank/home/mail); newest
            snapshots 4m 4s old
            invocation 14: 04:04:02, 3.7s: 3 filesystems, 2 steps with
            100.0 MiB, 3 snapshots destroyed, with errors

            Replication: failed for 3 of 3 filesystems, 04:04:02 to
            04:04:06 (4s)
              filesystems 3: 2 failed, 1 to be tried again
              ! failed     tank/home         0/1  1.0 KiB / 2.0 KiB
                zfs receive ended with exit status 1:
                cannot receive incremental stream: dataset is busy
                see `zfs holds` for what keeps it
              ! failed     tank/home/mail
                the two sides have diverged: the newest common version
                is @a
              ! again      tank/home/photos  0/1  0 B, size unknown  @a
                => @b
                connection reset by peer

            Pruning of the sender: failed, 2 snapshots tried
              ! failed     tank/home
                @zrepl_000: dataset is busy

            Pruning of the receiver: planning failed
              cannot reach the receiver
            ? help  q quit  Tab focus  / filter  f find  S signal"#]],
    );
}

#[test]
fn nothing_could_be_planned() {
    looks(
        Theatre::new(80, 24, &planning_error()),
        &expect![[r#"
            zrepl 0.8.0, started 1d 1h ago                                          04:05:06
            == Jobs, 1 with errors =========================================================
              JOB       STATE    TYPE    ERROR
            > nas       1 error  pull    planning replication: cannot list the receiver: no…
              (daemon)  answers  daemon
            -- nas, pull -------------------------------------------------------------------
            1 error
            invocation 2: 04:04:26, 3.7s: 3 filesystems, 2 steps with 100.0 MiB, 3 snapshots
            destroyed, with errors

            Replication: planning failed, attempt 2, 04:04:56 to 04:04:57 (1s)
              attempt 1 planning-error at 04:04:27
                cannot list the receiver: timeout
              cannot list the receiver: no route to host
              (is the network up?)

            Pruning: not started






            ? help  q quit  Tab focus  / filter  f find  S signal  E failed job  e errors"#]],
    );
}

#[test]
fn the_connection_is_gone() {
    looks(
        Theatre::new(80, 24, &reconnecting()),
        &expect![[r#"
            zrepl 0.8.0, started 1d 1h ago                                          04:05:06
            == Jobs, 1 with errors =========================================================
              JOB       STATE                  NEXT   TYPE    ERROR
            > office    reconnecting, 1 error  in 1h  push    snapshotting: cron frequency …
              (daemon)  answers                       daemon
            -- office, push ----------------------------------------------------------------
            reconnecting, 1 error; next run in 1h (05:05:06)
            invocation 3: since 04:03:25, for 1m 41s

            Replication: waiting for the connection, since 04:03:26 (1m 40s)
              connection lost, tries to reconnect since 04:03:51 (1m 15s), gives up
              in 8m 45s (04:13:51)
              filesystems 1: 1 waiting
                waits      tank  0/1  in full @a

            Pruning: not started

            Snapshotting: waits for its time, with errors
              cron frequency is too high; snapshots were not taken 2 times
              next round in 1h (05:05:06)



            ? help  q quit  Tab focus  / filter  f find  S signal  E failed job  e errors"#]],
    );
}

#[test]
fn the_daemon_does_not_answer_before_and_after_it_did() {
    let mut theatre = Theatre::waiting(80, 12);
    theatre.answer(0, Err("cannot reach the daemon on /run/zrepl/control".to_owned()));
    let before = theatre.picture();
    expect![[r#"
        zrepl
        == Jobs, 1 with errors =========================================================
          JOB       STATE      TYPE    ERROR
        > (daemon)  no answer  daemon  cannot reach the daemon on /run/zrepl/control
        -- Daemon ----------------------------------------------------------------------
        cannot reach the daemon on /run/zrepl/control





        no status: cannot reach the daemon on /run/zrepl/control"#]]
    .assert_eq(&before);
    theatre.report(5, &idle());
    theatre.answer(65, Err("cannot reach the daemon on /run/zrepl/control".to_owned()));
    looks(
        theatre,
        &expect![[r#"
            zrepl 0.8.0, started 1d 1h ago                                          04:05:11
            == Jobs, 1 with errors ================================================== 1-2/3
              JOB            STATE      LAG   LAST OK    NEXT       NEWEST  TYPE
            > home_to_vault  ok         none  5m 4s ago  in 4m 51s  5m 9s   push
              vault          serves                                         sink
            -- home_to_vault, push ------------------------------------------------- 1-5/19
            ok; last success 5m 4s ago (04:01:07); next run in 4m 51s (04:11:02); the
            receiver is up to date; newest snapshots 5m 9s old
            invocation 12: 04:01:03, 3.7s: 3 filesystems, 2 steps with 100.0 MiB,
            3 snapshots destroyed

            no status: cannot reach the daemon on /run/zrepl/control, shown is 1m ago"#]],
    );
}

#[test]
fn the_daemon_itself() {
    let mut theatre = Theatre::new(80, 16, &sending(0));
    theatre.press(KeyCode::Char('G'));
    looks(
        theatre,
        &expect![[r#"
            zrepl 0.8.0, started 1d 1h ago                                          04:05:06
            == Jobs ========================================================================
              JOB            STATE        LAG         LAST OK      NEXT       NEWEST  TYPE
              home_to_vault  sending 36%  1 not sent  11m 40s ago  in 9m 48s  12s     push
            > (daemon)       answers                                                  daemon
            -- Daemon -------------------------------------------------------------- 1-9/11
            zrepl  the daemon
            version: 0.8.0
            started: 1d 1h ago (2099-02-02 03:05:06)

            Running commands
                   8s zfs send -vP -i @b tank/home@c
                   1s zfs list -r other
                   8s zfs receive -s vault/backup/host/tank/home

            ? help  q quit  Tab focus  / filter  f find  S signal  E failed job  e errors"#]],
    );
}

#[test]
fn ten_thousand_filesystems() {
    let mut theatre = Theatre::new(80, 16, &large(10_000));
    theatre.press(KeyCode::Tab);
    theatre.press(KeyCode::Char('G'));
    looks(
        theatre,
        &expect![[r#"
            zrepl 0.8.0, started 1d 1h ago                                          04:05:06
            -- Jobs, 1 with errors ---------------------------------------------------------
              JOB       STATE    TYPE    ERROR
            > vms       1 error  push    tank/vm/disk-05000: out of space
              (daemon)  answers  daemon
            == vms, push ================================================ 10003-10011/10011
                done       tank/vm/disk-09995  1/1     1.0 KiB
                done       tank/vm/disk-09996  1/1     1.0 KiB
                done       tank/vm/disk-09997  1/1     1.0 KiB
                done       tank/vm/disk-09998  1/1     1.0 KiB
                done       tank/vm/disk-09999  1/1     1.0 KiB

            Pruning: not started

            Snapshotting: nothing is told
            ? help  q quit  Tab focus  / filter  f find  S signal  E failed job  e errors"#]],
    );
    let mut theatre = Theatre::new(80, 16, &large(10_000));
    theatre.press(KeyCode::Char('e'));
    looks(
        theatre,
        &expect![[r#"
            errors only                                                             04:05:06
            == Jobs, 1 with errors =========================================================
              JOB       STATE    TYPE    ERROR
            > vms       1 error  push    tank/vm/disk-05000: out of space
              (daemon)  answers  daemon
            -- vms, push ----------------------------------------------------------- 1-9/12
            1 error
            invocation 5: 04:04:02, 3.7s: 3 filesystems, 2 steps with 100.0 MiB, 3 snapshots
            destroyed, with errors

            Replication: failed for 1 of 10000 filesystems, 04:04:02 to 04:04:06 (4s)
              filesystems 10000: 1 failed, 9999 done
              ! failed     tank/vm/disk-05000  0/1  5 B / 10 B
                out of space

            ? help  q quit  Tab focus  / filter  f find  S signal  E failed job  e errors"#]],
    );
}

#[test]
fn scrolling_among_ten_thousand_makes_no_lines_anew() {
    let mut theatre = Theatre::new(120, 40, &large(10_000));
    theatre.press(KeyCode::Tab);
    for _ in 0..30 {
        theatre.press(KeyCode::PageDown);
        assert!(!theatre.screen.stale);
    }
    assert!(theatre.picture().contains("/10010"), "{}", theatre.picture());
}

#[test]
fn dialogs() {
    let mut theatre = Theatre::new(80, 24, &idle());
    theatre.press(KeyCode::Char('S'));
    looks(
        theatre,
        &expect![[r#"
            zrepl 0.8.0, started 1d 1h ago                                          04:05:06
            == Jobs ========================================================================
              JOB            STATE    LAG   LAST OK     NEXT       NEWEST  TYPE
            > home_to_vault  ok       none  3m 59s ago  in 5m 56s  4m 4s   push
              vault          serves                                        sink
              (daemon)       answers                                       daemon
            -- home_to_vault, push ------------------------------------------------ 1-16/19
            ok; last success 3m 59s ago (04:01:07); next run in 5m 56s (04:11:02); the
            receiver is┌ Send a signal to job "home_to_vault" ──────────────────┐
            invocation │ wakeup    replicate and prune now, or after what runs  │
            3 snapshots│ reset     cancel what runs; received data stays        │
                       │ snapshot  take snapshots now, then replicate and prune │
            Replication│ nothing   leave it alone                               │
              filesyste│                                                        │
                done   │ arrows: choose  Enter: do it  Esc: back                │
                done   └────────────────────────────────────────────────────────┘

            Pruning of the sender: done, 2 snapshots destroyed
                done       tank/home  2 of 12 snapshots

            Pruning of the receiver: done, 1 snapshot destroyed
                done       tank/home  @zrepl_000, 1 of 100 snapshots

            ? help  q quit  Tab focus  / filter  f find  S signal  E failed job  e errors"#]],
    );
    let mut theatre = Theatre::new(80, 20, &idle());
    theatre.press(KeyCode::Char('S'));
    theatre.press(KeyCode::Char('j'));
    theatre.press(KeyCode::Enter);
    looks(
        theatre,
        &expect![[r#"
        zrepl 0.8.0, started 1d 1h ago                                          04:05:06
        == Jobs ========================================================================
          JOB            STATE    LAG   LAST OK     NEXT       NEWEST  TYPE
        > home_to_vault  ok       none  3m 59s ago  in 5m 56s  4m 4s   push
          vault          serves                                        sink
          (daemon)       answers                                       daemon
        -- home_to_vault, push ------------------------------------------------ 1-12/19
        ok; l┌ Reset job "home_to_vault"? ───────────────────────────────────────┐
        recei│ no, let it run                                                    │
        invoc│ yes, cancel it; what was received stays, and is resumed next time │
        3 sna│                                                                   │
             │ arrows: choose  Enter: do it  Esc: back                           │
        Repli└───────────────────────────────────────────────────────────────────┘
          filesystems 3: 2 done, 1 up to date
            done       tank/home         1/1  100.0 MiB
            done       tank/home/photos  1/1        0 B

        Pruning of the sender: done, 2 snapshots destroyed
            done       tank/home  2 of 12 snapshots
        ? help  q quit  Tab focus  / filter  f find  S signal  E failed job  e errors"#]],
    );
    let mut theatre = Theatre::new(80, 24, &idle());
    theatre.press(KeyCode::Char('?'));
    looks(
        theatre,
        &expect![[r#"
            z┌ Keys and words ────────────────────────────────────────────────────────────┐6
            =│Everywhere                                                                  │=
             │ Tab              jobs, detail, filter, and around                          │
            >│ q, Q, Ctrl-C     quit                                                      │
             │ E                next job with errors                                      │
             │ e                list filesystems with errors only                         │
            -│ a                list all filesystems, also those without work             │
            o│ /                filter filesystems by a regular expression                │
            r│ f                find text in the detail; n, N: next, previous             │
            i│ S                signal the job: wakeup, reset, snapshot                   │
            3│ M                hide or show the list of jobs                             │
             │ w, W             wrap long lines                                           │
            R│ r                ask the daemon now                                        │
             │ Esc              clear filter, search and messages                         │
             │ ?, F1            this help                                                 │
             │Jobs                                                                        │
             │ j k, arrows      choose; g, G, Home, End: first, last                      │
            P│ Enter, Space     to the detail                                             │
             │Detail                                                                      │
             │ j k h l, arrows  scroll                                                    │
            P│ g G, Home End    to the top, to the end                                    │
             │ PgUp PgDn        by pages, as Ctrl-B, Ctrl-F; by halves Ctrl-U, Ctrl-D     │
             │Columns                                                                     │
            ?└ 1-22/37  j k: scroll  Esc: close ──────────────────────────────────────────┘"#]],
    );
    let mut theatre = Theatre::new(80, 24, &idle());
    theatre.press(KeyCode::Char('?'));
    theatre.press(KeyCode::PageDown);
    theatre.press(KeyCode::PageDown);
    looks(
        theatre,
        &expect![[r#"
        z┌ Keys and words ────────────────────────────────────────────────────────────┐6
        =│ j k, arrows      choose; g, G, Home, End: first, last                      │=
         │ Enter, Space     to the detail                                             │
        >│Detail                                                                      │
         │ j k h l, arrows  scroll                                                    │
         │ g G, Home End    to the top, to the end                                    │
        -│ PgUp PgDn        by pages, as Ctrl-B, Ctrl-F; by halves Ctrl-U, Ctrl-D     │
        o│Columns                                                                     │
        r│ STATE            what the job does, or how its last run ended              │
        i│  ok              that was without errors                                   │
        3│  serves          it waits for other hosts, and never runs by itself        │
         │  answers         the daemon does                                           │
        R│ LAG              how much older the receiver's newest snapshot is, at most │
         │  not sent        filesystems of which it has nothing that the sender has   │
         │ LAST OK          when everything was last done without error               │
         │ NEXT             when the job runs by itself                               │
         │ NEWEST           age of the newest snapshot, where it is oldest            │
        P│ TYPE             of the job, as in the configuration                       │
         │Signs                                                                       │
         │ !                failed                                                    │
        P│ *                happens now                                               │
         │ 1/2              steps done, and all; a step sends one snapshot            │
         │ …                more follows: wrap (w), or scroll to the side             │
        ?└ 16-37/37  j k: scroll  Esc: close ─────────────────────────────────────────┘"#]],
    );
}

#[test]
fn several_daemons() {
    let options = Options { job: None, colors: true, legacy: false, zone: TimeZone::UTC };
    let mut theatre = Theatre::with(100, 14, options, vec![Some("here".to_owned()), Some("there".to_owned())]);
    theatre.report(0, &idle());
    let report = serde_json::from_str(&planning_error()).unwrap();
    theatre.screen.note(1, Duration::ZERO, stories::now(), Ok(report));
    looks(
        theatre,
        &expect![[r#"
            2 daemons                                                                                   04:05:06
            == Jobs, 1 with errors ====================================================================== 1-2/5
              JOB                 STATE    LAG   LAST OK     NEXT       NEWEST  TYPE    ERROR
            > here:home_to_vault  ok       none  3m 59s ago  in 5m 56s  4m 4s   push
              here:vault          serves                                        sink
            -- here:home_to_vault, push ---------------------------------------------------------------- 1-7/18
            ok; last success 3m 59s ago (04:01:07); next run in 5m 56s (04:11:02); the receiver is up to date;
            newest snapshots 4m 4s old
            invocation 12: 04:01:03, 3.7s: 3 filesystems, 2 steps with 100.0 MiB, 3 snapshots destroyed

            Replication: done, 04:01:03 to 04:01:06 (3s)
              filesystems 3: 2 done, 1 up to date
                done       tank/home         1/1  100.0 MiB
            ? help  q quit  Tab focus  / filter  f find  S signal  E failed job  e errors  a all  w wrap  M list"#]],
    );
}

#[test]
fn no_size_is_too_small_or_too_large() {
    for report in [idle(), sending(1), failed(), reconnecting(), large(50)] {
        for (width, height) in
            [(0, 0), (1, 1), (2, 2), (3, 3), (5, 4), (10, 5), (20, 6), (39, 9), (400, 3), (1, 200), (300, 90)]
        {
            let mut theatre = Theatre::new(80, 24, &report);
            for key in [
                KeyCode::Null,
                KeyCode::Char('w'),
                KeyCode::Char('M'),
                KeyCode::Char('S'),
                KeyCode::Esc,
                KeyCode::Char('?'),
            ] {
                theatre.press(key);
                theatre.resize(width, height);
                theatre.picture();
                theatre.press(KeyCode::Tab);
                theatre.press(KeyCode::Right);
                theatre.press(KeyCode::End);
                theatre.resize(80, 24);
            }
        }
    }
}
