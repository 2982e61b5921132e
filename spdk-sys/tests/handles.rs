//! The three handles over the made-up SPDK.

#![allow(unsafe_code, reason = "queues take raw pointers")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::sync::{Arc, Once};

use spdk_sys::bindings::{self, fs_ctrlr_options, fs_queue_options};
use spdk_sys::fake::{Death, Drive, Knob};
use spdk_sys::{AdminCommand, AdminError, Controller, Direction, Environment, Queue, SubmitError};

fn attach(id: &str) -> (Arc<Controller>, Drive) {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| Environment::default().init().unwrap());
    let options = fs_ctrlr_options {
        hostnqn: std::ptr::null(),
        num_io_queues: 0,
        keep_alive_timeout_ms: 10_000,
        command_timeout_us: 0,
        timeout_action: bindings::FS_TIMEOUT_NONE,
        use_cmb_sqs: false,
        enable_wrr: false,
        arbitration_burst: 7,
        low_weight: 0,
        medium_weight: 0,
        high_weight: 0,
        header_digest: false,
        data_digest: false,
    };
    let controller = Controller::attach(id, &options).unwrap();
    (Arc::new(controller), Drive::at(id).unwrap())
}

fn queue(controller: &Arc<Controller>, depth: u32) -> Queue {
    let options = fs_queue_options {
        depth,
        io_queue_size: 0,
        io_queue_requests: 0,
        priority: 2,
        delay_cmd_submit: true,
        read_flags: 0,
        write_flags: 0,
        apptag: 0,
        apptag_mask: 0,
        largest_io: 4096,
    };
    let mut queue = Queue::new(&options).unwrap();
    queue.add(Arc::clone(controller), 1).unwrap();
    queue
}

fn flush(queue: &mut Queue, tag: u32) -> Result<(), SubmitError> {
    // SAFETY: target 0 was added, the tag is free, and a flush moves nothing.
    unsafe { queue.submit(bindings::FS_OP_FLUSH, 0, std::ptr::null_mut(), 0, 0, tag) }
}

#[test]
fn a_controller_says_what_it_is() {
    let (controller, _) = attach("trtype=PCIe traddr=0000:00:00.0,lba4096,ns2,queues3,entries64");
    let info = controller.info();
    assert_eq!((info.transport, info.namespaces), (bindings::FS_TRANSPORT_PCIE, 2));
    assert_eq!((info.num_io_queues, info.max_queue_entries), (3, 64));
    let namespace = controller.namespace(2).unwrap();
    assert_eq!((namespace.lba_bytes, namespace.blocks), (4096, 16384));
    assert!(controller.namespace(3).is_none() && controller.identify_namespace(0).is_none());
    assert_eq!(&controller.identify()[24..30], b"Made-u");
    assert_eq!(spdk_sys::version_running().split(" / ").next(), Some("Starting SPDK v24.01-fake"));
}

#[test]
fn admin_commands_end_with_a_value_a_status_or_an_errno() {
    let (controller, drive) = attach("trtype=PCIe traddr=0000:00:00.1");
    let get = |feature| AdminCommand { opcode: 0x0a, nsid: 0, cdw: [feature, 0, 0, 0, 0, 0] };
    assert_eq!(controller.admin(&get(6), Direction::None, 60_000_000), Ok(1));
    let status = controller.admin(&get(0xfe), Direction::None, 60_000_000);
    assert_eq!(status, Err(AdminError::Status(2)), "an invalid field");
    let mut page = [0; 512];
    let health = AdminCommand { opcode: 0x02, nsid: u32::MAX, cdw: [0x02 | 127 << 16, 0, 0, 0, 0, 0] };
    assert_eq!(controller.admin(&health, Direction::From(&mut page), 60_000_000), Ok(0));
    assert_eq!(u16::from_le_bytes([page[1], page[2]]), 300);
    drive.set(Knob::AdminSilent, 1);
    assert_eq!(controller.admin(&get(6), Direction::None, 1000), Err(AdminError::Errno(110)));
    controller.fail();
    assert_eq!(controller.admin(&get(6), Direction::None, 1000), Err(AdminError::Errno(6)));
}

#[test]
fn a_queue_outlives_the_handle_of_its_controller() {
    let (controller, drive) = attach("trtype=PCIe traddr=0000:00:00.2");
    let mut queue = queue(&controller, 4);
    drop(controller);
    (0..4).for_each(|tag| flush(&mut queue, tag).unwrap());
    assert_eq!(queue.in_flight(), 4);
    queue.poll(0).unwrap();
    assert_eq!(queue.poll(0), Ok(4));
    let mut tags: Vec<u32> = queue.done().iter().map(|done| done.tag).collect();
    tags.sort_unstable();
    assert_eq!(tags, [0, 1, 2, 3]);
    queue.consume(3);
    assert_eq!(queue.done().len(), 1);
    drop(queue);
    assert_eq!(
        (drive.get(Knob::Shutdowns), drive.get(Knob::QueuePairs), drive.get(Knob::Misuses)),
        (1, 0, 0)
    );
}

#[test]
fn the_death_of_a_controller_is_an_error_of_polls_and_submits() {
    let (controller, drive) = attach("trtype=VFIOUSER traddr=/handles");
    let mut queue = queue(&controller, 2);
    flush(&mut queue, 0).unwrap();
    drive.die(Death::Silent);
    assert_eq!(queue.poll(0), Ok(0));
    assert_eq!(controller.health().csts, u32::MAX);
    controller.fail();
    assert_eq!(queue.poll(0), Err(6));
    assert_eq!(flush(&mut queue, 1), Err(SubmitError::Dead));
    queue.close();
    assert_eq!(queue.done().iter().map(|done| (done.tag, done.status)).collect::<Vec<_>>(), [(0, 7)]);
    drop(queue);
    drop(controller);
    assert_eq!((drive.get(Knob::Shutdowns), drive.get(Knob::Misuses)), (0, 0));
}
