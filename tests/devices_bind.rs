//! `fio-spdk devices bind` and `unbind` as far as a machine without a spare NVMe controller can show them;
//! `ci/bind` has the rest, in a guest.

mod common;

use std::fs;

use common::Lab;

/// Where no machine has anything: the last function of the last bus of a domain far away.
const NOWHERE: &str = "fffe:ff:1f.7";

#[test]
fn what_is_no_address_or_no_driver_is_a_wrong_command_line() {
    let lab = Lab::new();
    for wrong in ["nvme0", "5e:00", "5e:00.8", "/dev/nvme0n1"] {
        lab.run(&["devices", "bind", wrong]).expect(2).says("is no PCI address");
        lab.run(&["devices", "unbind", NOWHERE, wrong]).expect(2).says("is no PCI address");
    }
    lab.run(&["devices", "bind"]).expect(2);
    lab.run(&["devices", "bind", "--driver=nvme", NOWHERE]).expect(2).says("uio_pci_generic");
    lab.run(&["devices", "bind", "--hugepages=lots", NOWHERE]).expect(2);
    lab.run(&["devices", "--json", "bind", NOWHERE]).expect(2);
}

#[test]
fn a_controller_that_is_not_there_is_answered_with_those_that_are() {
    let lab = Lab::new();
    for verb in ["bind", "unbind"] {
        for address in [NOWHERE, "fffe.ff.1f.7"] {
            let done = lab.run(&["devices", verb, address]).expect(4);
            assert!(done.stderr.contains(&format!("cannot {verb} {NOWHERE}: ")), "{done:?}");
            assert!(done.stderr.contains("no such PCI device"), "{done:?}");
            assert!(done.stderr.contains("NVMe controller"), "{done:?}");
        }
    }
}

#[test]
fn another_device_than_an_nvme_controller_is_refused() {
    let others = fs::read_dir("/sys/bus/pci/devices").into_iter().flatten().flatten().find(|entry| {
        let class = fs::read_to_string(entry.path().join("class")).unwrap_or_default();
        !class.is_empty() && !class.starts_with("0x0108")
    });
    let Some(other) = others else {
        println!("skipped: this machine has no PCI device");
        return;
    };
    let address = other.file_name().to_string_lossy().into_owned();
    let driver = || fs::read_link(other.path().join("driver")).ok();
    let before = driver();
    for verb in ["bind", "unbind"] {
        Lab::new().run(&["devices", verb, &address]).expect(6).says("no NVMe controller");
    }
    assert_eq!(driver(), before);
}

#[test]
fn the_listing_and_the_completions_stay_and_the_help_has_both() {
    let lab = Lab::new();
    lab.run(&["devices"]).expect(0);
    let done = lab.run(&["devices", "--help"]).expect(0);
    assert!(done.stdout.contains("unbind") && done.stdout.contains("--json"), "{done:?}");
    let done = lab.run(&["devices", "bind", "--help"]).expect(0);
    assert!(done.stdout.contains("--hugepages") && done.stdout.contains("6 refused"), "{done:?}");
    let done = lab.run(&["completions", "bash"]).expect(0);
    assert!(done.stdout.contains("unbind"), "{done:?}");
}
