//! The command that boots a guest under QEMU, without hardware help.

use super::emulator;
use super::guest::{Access, Boot, Guest};
use std::path::Path;
use std::process::Command;

const KERNEL_COMMAND_LINE: &str = "console=ttyS0 root=/dev/vda ro rootfstype=squashfs \
    init=/sbin/guest-init guest.out=/dev/hvc0 panic=-1 quiet mitigations=off tsc=reliable \
    random.trust_cpu=on";

pub(super) fn command(unpacked: &Path, guest: &Guest<'_>, boot: &Boot) -> Command {
    let mut command = emulator::command(unpacked);
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    command.args(["-machine", "q35,usb=off,vmport=off,hpet=off", "-accel", "tcg,thread=multi"]);
    command.args(["-cpu", "max", "-smp", "2", "-m", &guest.memory_mib.to_string()]);
    command.arg("-kernel").arg(&guest.machine.kernel);
    let errors = if boot.interactive { "" } else { " guest.err=/dev/hvc1" };
    command.args(["-append", &format!("{KERNEL_COMMAND_LINE}{errors}")]);
    command.args(["-device", "virtio-serial-pci", "-device", "virtio-rng-pci"]);
    let input = if boot.interactive { ",input-path=/proc/self/fd/6" } else { "" };
    console(&mut command, "out", &format!("/proc/self/fd/3{input}"));
    console(&mut command, "err", "/proc/self/fd/4");
    let log = format!("file,id=log,append=on,path={}", boot.log.display());
    command.args(["-chardev", &log, "-serial", "chardev:log"]);
    drive(&mut command, "root", &guest.machine.root, ",readonly=on");
    for (number, file) in boot.disks.iter().enumerate() {
        drive(&mut command, &format!("disk{number}"), file, ",discard=unmap");
    }
    folder(&mut command, "ctl", &boot.control, Access::Write);
    for (tag, share) in &boot.shares {
        folder(&mut command, tag, &share.path, share.access);
    }
    command
}

fn console(command: &mut Command, id: &str, path: &str) {
    command.args(["-chardev", &format!("file,id={id},path={path}")]);
    command.args(["-device", &format!("virtconsole,chardev={id}")]);
}

fn drive(command: &mut Command, id: &str, file: &Path, options: &str) {
    let file = file.display();
    command.args(["-drive", &format!("if=none,id={id},format=raw,file={file}{options}")]);
    command.args(["-device", &format!("virtio-blk-pci,drive={id}")]);
}

fn folder(command: &mut Command, tag: &str, path: &Path, access: Access) {
    let readonly = match access {
        Access::Read => ",readonly=on",
        Access::Write => "",
    };
    let path = path.display();
    let options = "security_model=none,multidevs=remap";
    command.args(["-virtfs", &format!("local,path={path},mount_tag={tag},{options}{readonly}")]);
}
