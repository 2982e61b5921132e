use super::*;
use crate::remote::settings::Settings;
use std::fs;
use std::os::unix::fs::PermissionsExt;

fn wanted(directory: &Path) -> Wanted {
    Wanted { settings: Settings::new(directory.join("server.toml")), names: Vec::new(), ca: None }
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().mode() & 0o777
}

#[test]
fn what_is_made_is_loaded_by_both_sides_and_secrets_are_the_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("deep/fio-spdk");
    let text = init(&wanted(&place)).unwrap();
    assert!(
        text.contains("scp ") && text.contains("ca.key") && text.contains("fio-spdk server --config="),
        "{text}"
    );
    server_config(&place).unwrap();
    client_config(&place).unwrap();
    assert_eq!(mode(&place), 0o700);
    for key in [CA_KEY, SERVER_KEY, CLIENT_KEY] {
        assert_eq!(mode(&place.join(key)), 0o600, "{key}");
    }
    Settings::load(Some(&place.join("server.toml"))).unwrap();
    let copied = |file: &str| text.contains(&format!("{}", place.join(file).display()));
    assert!([CA, CLIENT, CLIENT_KEY, CA_KEY].into_iter().all(copied), "{text}");
    assert!(!text.contains('{'), "not every scp has braces: {text}");
    let left: Vec<_> = fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 7, "{left:?}");
    let name = name_of(&certificates(&place.join(CLIENT)).unwrap()[0]);
    assert!(name.starts_with("client of "), "{name}");
}

#[test]
fn certificates_say_what_they_are_for_and_how_long() {
    let folder = tempfile::tempdir().unwrap();
    init(&Wanted { names: vec!["dut2.lab".to_owned()], ..wanted(folder.path()) }).unwrap();
    let load = |name: &str| certificates(&folder.path().join(name)).unwrap().remove(0);
    let (ca, server, client) = (load(CA), load(SERVER), load(CLIENT));
    let parsed = |der: &'static CertificateDer<'static>| X509Certificate::from_der(der).unwrap().1;
    let [ca, server, client] = [ca, server, client].map(|der| parsed(Box::leak(Box::new(der))));
    let constraints = ca.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && constraints.value.ca && constraints.value.path_len_constraint == Some(0));
    assert!(!server.is_ca() && !client.is_ca());
    let use_of = |one: &X509Certificate<'_>| {
        let usage = one.extended_key_usage().unwrap().unwrap().value;
        (usage.server_auth, usage.client_auth, usage.any)
    };
    assert_eq!((use_of(&server), use_of(&client)), ((true, false, false), (false, true, false)));
    let years = |one: &X509Certificate<'_>| {
        (one.validity().not_after.timestamp() - one.validity().not_before.timestamp()) / (365 * 86_400)
    };
    assert_eq!((years(&ca), years(&server), years(&client)), (10, 5, 5));
    let names = format!("{:?}", server.subject_alternative_name().unwrap().unwrap().value);
    assert!(names.contains("dut2.lab") && names.contains("localhost"), "{names}");
}

#[test]
fn nothing_is_overwritten_and_the_user_is_told_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    fs::write(place.join("server.toml"), "max_runs = 3\n").unwrap();
    assert!(init(&wanted(place)).unwrap().contains("was there and is as it was"));
    assert_eq!(fs::read_to_string(place.join("server.toml")).unwrap(), "max_runs = 3\n");
    let all = || {
        [CA, CA_KEY, SERVER, SERVER_KEY, CLIENT, CLIENT_KEY].map(|name| fs::read(place.join(name)).unwrap())
    };
    let before = all();
    let why = init(&wanted(place)).unwrap_err();
    assert!(
        why.contains("nothing is overwritten") && why.contains("rm -f") && why.contains("--ca="),
        "{why}"
    );
    assert_eq!(all(), before);
    // Cut off before its end.
    fs::remove_file(place.join(SERVER)).unwrap();
    let why = init(&wanted(place)).unwrap_err();
    assert!(why.contains("cut off") && !why.contains(" --ca="), "{why}");
    assert!(server_config(place).unwrap_err().contains("server.pem is not in"));
    fs::remove_file(place.join(SERVER_KEY)).unwrap();
    assert!(init(&wanted(place)).unwrap_err().contains("--ca="));
    // The authority that is there signs the server anew.
    let text = init(&Wanted { ca: Some(place.to_owned()), ..wanted(place) }).unwrap();
    assert!(text.contains("need nothing new"), "{text}");
    server_config(place).unwrap();
    assert_eq!(fs::read(place.join(CA)).unwrap(), before[0]);
}

#[test]
fn one_authority_serves_a_fleet_and_a_foreign_key_is_none_of_its() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second, third] = ["first", "second", "third"].map(|name| folder.path().join(name));
    init(&wanted(&first)).unwrap();
    init(&Wanted { ca: Some(first.clone()), ..wanted(&second) }).unwrap();
    server_config(&second).unwrap();
    assert_eq!(fs::read(second.join(CA)).unwrap(), fs::read(first.join(CA)).unwrap());
    assert!(!second.join(CA_KEY).exists() && !second.join(CLIENT).exists());
    init(&wanted(&third)).unwrap();
    for name in [SERVER, SERVER_KEY] {
        fs::remove_file(second.join(name)).unwrap();
    }
    let why = init(&Wanted { ca: Some(third.clone()), ..wanted(&second) }).unwrap_err();
    assert!(why.contains("another authority"), "{why}");
    fs::copy(first.join(CA_KEY), third.join(CA_KEY)).unwrap();
    let why = init(&Wanted { ca: Some(third), ..wanted(&folder.path().join("fourth")) }).unwrap_err();
    assert!(why.contains("is not the key of"), "{why}");
}

#[test]
fn each_client_may_have_a_certificate_of_its_own_name() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("ca");
    init(&wanted(&place)).unwrap();
    let text = init_client("anna", &place).unwrap();
    let own = place.join("clients/anna");
    assert!(text.contains("scp ") && text.contains(&own.join(CLIENT_KEY).display().to_string()), "{text}");
    client_config(&own).unwrap();
    assert_eq!(name_of(&certificates(&own.join(CLIENT)).unwrap()[0]), "anna");
    assert_eq!((mode(&own), mode(&own.join(CLIENT_KEY))), (0o700, 0o600));
    assert!(!own.join(CA_KEY).exists() && fs::read_dir(&own).unwrap().count() == 3);
    let before = fs::read(own.join(CLIENT)).unwrap();
    let why = init_client("anna", &place).unwrap_err();
    assert!(why.contains("nothing is overwritten") && why.contains("rm -f"), "{why}");
    assert_eq!(fs::read(own.join(CLIENT)).unwrap(), before);
    // As it says.
    fs::remove_file(own.join(CLIENT)).unwrap();
    fs::remove_file(own.join(CLIENT_KEY)).unwrap();
    init_client("anna", &place).unwrap();
    assert_ne!(fs::read(own.join(CLIENT)).unwrap(), before);
    for wrong in ["", ".", "..", "../x", "a/b", "-x", "a b", "dut1:8765", &"x".repeat(65)] {
        let why = init_client(wrong, &place).unwrap_err();
        assert!(why.contains("a name for the client"), "{wrong}: {why}");
    }
    fs::remove_file(place.join(CA_KEY)).unwrap();
    assert!(init_client("bert", &place).unwrap_err().contains("--ca=DIR"));
    assert!(!place.join("clients/bert").exists());
}

#[test]
fn keys_that_others_can_read_and_directories_that_they_can_write_to_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("keys");
    init(&wanted(&place)).unwrap();
    for (key, load) in [
        (SERVER_KEY, (|place| server_config(place).map(|_| ())) as fn(&Path) -> Result<(), String>),
        (CLIENT_KEY, |place| client_config(place).map(|_| ())),
    ] {
        fs::set_permissions(place.join(key), fs::Permissions::from_mode(0o640)).unwrap();
        let why = load(&place).unwrap_err();
        assert!(why.contains(&format!("chmod 600 {}", place.join(key).display())), "{why}");
        fs::set_permissions(place.join(key), fs::Permissions::from_mode(0o400)).unwrap();
        load(&place).unwrap();
    }
    let open = folder.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o770)).unwrap();
    assert!(init(&wanted(&open)).unwrap_err().contains("chmod go-w"));
    assert_eq!(fs::read_dir(&open).unwrap().count(), 0);
}

#[test]
fn what_is_no_certificate_or_not_this_keys_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let [one, other] = ["one", "other"].map(|name| folder.path().join(name));
    init(&wanted(&one)).unwrap();
    init(&wanted(&other)).unwrap();
    fs::copy(other.join(SERVER_KEY), one.join(SERVER_KEY)).unwrap();
    assert!(server_config(&one).unwrap_err().contains("do not serve together"));
    fs::write(one.join(CA), "hello").unwrap();
    assert!(client_config(&one).unwrap_err().contains("no certificate stands in it"));
    fs::write(one.join(CA), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    assert!(client_config(&one).unwrap_err().contains("ca.pem"));
}

#[test]
fn a_client_finds_the_keys_of_a_host_before_those_of_all() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    let why = find("dut1", Some(place)).unwrap_err();
    assert!(
        why.contains("client.key")
            && why.contains("server --init")
            && why.contains(&place.display().to_string())
    );
    fs::write(place.join(CLIENT), "").unwrap();
    assert_eq!(find("dut1", Some(place)).unwrap(), place);
    fs::create_dir(place.join("dut1")).unwrap();
    assert_eq!(find("dut1", Some(place)).unwrap(), place.join("dut1"));
    assert_eq!(find("dut2", Some(place)).unwrap(), place);
}
