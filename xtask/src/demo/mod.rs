use clap::Args;
#[derive(Args)]
pub(crate) struct Arguments {
    #[arg(long)]
    keep: bool,
}
pub(crate) fn run(_: &Arguments) -> anyhow::Result<std::process::ExitCode> {
    anyhow::bail!("wip")
}
pub(crate) mod inside {
    use clap::Args;
    #[derive(Args)]
    pub(crate) struct Arguments {}
    pub(crate) fn run(_: &Arguments) -> anyhow::Result<std::process::ExitCode> {
        anyhow::bail!("wip")
    }
}
