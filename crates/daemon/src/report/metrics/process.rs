//! What the system knows of the process: the `process_*` metrics that every exporter has.

use super::family::{Kind, single};

/// Clock ticks per second in `/proc`: 100 on every Linux that there is, whatever the kernel's own.
const TICKS: f64 = 100.0;

/// Appends what `/proc` tells; nothing where there is no `/proc`.
pub(super) fn write(text: &mut String) {
    let read = |name: &str| std::fs::read_to_string(name).unwrap_or_default();
    if let Some(stat) = Stat::parse(&read("/proc/self/stat")) {
        stat.write(text, boot_time(&read("/proc/stat")));
    }
    if let Some(open) = std::fs::read_dir("/proc/self/fd").ok().map(Iterator::count) {
        single(text, "process_open_fds", Kind::Gauge, "Open file descriptors.", open as f64);
    }
    if let Some(most) = max_open_files(&read("/proc/self/limits")) {
        single(text, "process_max_fds", Kind::Gauge, "Most file descriptors that may be open.", most);
    }
}

#[derive(Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    threads: f64,
    /// Seconds after the boot.
    started: f64,
    virtual_bytes: f64,
    resident_bytes: f64,
}

impl Stat {
    /// Reads `/proc/PID/stat`, see proc(5). The program's name may hold anything, parentheses included.
    fn parse(text: &str) -> Option<Stat> {
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // Counted from field 3.
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        Some(Stat {
            cpu_seconds: (field(14)? + field(15)?) / TICKS,
            threads: field(20)?,
            started: field(22)? / TICKS,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * rustix::param::page_size() as f64,
        })
    }

    fn write(&self, text: &mut String, boot: Option<f64>) {
        let mut gauge = |name, help, value| single(text, name, Kind::Gauge, help, value);
        gauge("process_resident_memory_bytes", "Memory in RAM.", self.resident_bytes);
        gauge("process_virtual_memory_bytes", "Address space.", self.virtual_bytes);
        gauge("process_threads", "Threads.", self.threads);
        if let Some(boot) = boot {
            gauge("process_start_time_seconds", "When the process started, as Unix time.", boot + self.started);
        }
        let help = "Processor time of the daemon itself, without its children.";
        single(text, "process_cpu_seconds_total", Kind::Counter, help, self.cpu_seconds);
    }
}

fn boot_time(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

fn max_open_files(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read_whatever_the_program_is_called() {
        let text = "7 (z ) r) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 3 0 400 1000000 25 184";
        let page = rustix::param::page_size() as f64;
        let expected = Stat {
            cpu_seconds: 2.0,
            threads: 3.0,
            started: 4.0,
            virtual_bytes: 1_000_000.0,
            resident_bytes: 25.0 * page,
        };
        assert_eq!(Stat::parse(text), Some(expected));
        assert_eq!(Stat::parse("7 (z) S 1"), None);
        assert_eq!(boot_time("cpu 1 2\nbtime 1700000000\n"), Some(1_700_000_000.0));
        assert_eq!(max_open_files("Max open files            1024                 4096   files\n"), Some(1024.0));
        assert_eq!(max_open_files("Max open files            unlimited            unlimited\n"), None);
    }
}
