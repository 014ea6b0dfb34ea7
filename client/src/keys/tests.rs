use hermesh_engine::parameters::LINEAR;
use hermesh_mesh::Digest;

use super::*;

fn secret() -> (Secret, EvaluationKey) {
    let (client, evaluation) = ClientKey::generate(&LINEAR);
    let signing = SigningKey::generate();
    let tenant = default_tenant(&signing).unwrap();
    (Secret { client, signing, tenant }, evaluation)
}

#[test]
fn a_secret_survives_its_encoding() {
    let (secret, _) = secret();
    let again = Secret::decode(&secret.encode()).unwrap();
    assert_eq!(again.tenant, secret.tenant);
    assert_eq!(again.signing.to_bytes(), secret.signing.to_bytes());
    assert_eq!(again.client.encode(), secret.client.encode());
}

#[test]
fn anything_else_is_refused() {
    let (secret, _) = secret();
    let bytes = secret.encode();
    for length in [0, 6, HEADER_BYTES, HEADER_BYTES + 5, HEADER_BYTES + 23 + 5, bytes.len() - 1] {
        assert!(Secret::decode(&bytes[..length]).is_err(), "{length} bytes");
    }
    let altered = |at: usize, to: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = to;
        Secret::decode(&bytes).unwrap_err()
    };
    assert!(matches!(altered(0, b'X'), Error::NotClientKeys { .. }));
    assert!(altered(4, 9).to_string().contains("a newer hermesh (format 9)"));
    assert!(matches!(altered(6, 255), Error::Engine(_) | Error::NotClientKeys { .. }));
    assert!(matches!(altered(HEADER_BYTES, b'.'), Error::NotClientKeys { .. }));
}

#[test]
fn a_directory_of_keys_is_written_once() {
    let directory = tempfile::tempdir().unwrap();
    let keys = KeyDirectory::new(&directory.path().join("a/b"));
    let (secret, evaluation) = secret();
    let passphrase: Passphrase = "one".to_owned().into();
    keys.check_free().unwrap();
    keys.write(&secret, &evaluation, &passphrase, Existing::Keep).unwrap();
    assert_eq!(keys.read_evaluation_key().unwrap().digest(), secret.client.evaluation_key());
    assert_eq!(keys.read_secret(&passphrase).unwrap().tenant, secret.tenant);
    let refused = keys.check_free().unwrap_err();
    assert!(
        matches!(refused, Error::File { source, .. } if matches!(*source, Error::AlreadyExists))
    );
    assert!(keys.write(&secret, &evaluation, &passphrase, Existing::Keep).is_err());
}

#[cfg(unix)]
#[test]
fn only_the_secret_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let keys = KeyDirectory::new(directory.path());
    let (secret, evaluation) = secret();
    keys.write(&secret, &evaluation, &"one".to_owned().into(), Existing::Keep).unwrap();
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(keys.client_key()), 0o600);
    // The umask of the user who runs the tests may remove the rights of other users, but nothing more.
    assert_eq!(mode(keys.evaluation_key()) & 0o600, 0o600);
    assert_eq!(mode(keys.evaluation_key()) & 0o133, 0);
}

#[test]
fn keys_change_and_the_old_secret_stays() {
    let directory = tempfile::tempdir().unwrap();
    let keys = KeyDirectory::new(directory.path());
    let passphrase: Passphrase = "one".to_owned().into();
    let (first, first_evaluation) = secret();
    keys.write(&first, &first_evaluation, &passphrase, Existing::Keep).unwrap();
    let old = Digest(first.client.evaluation_key());
    let (client, evaluation) = ClientKey::generate(&LINEAR);
    let new = Digest(evaluation.digest());
    let second = Secret { client, signing: first.signing, tenant: first.tenant };
    keys.next().write(&second, &evaluation, &passphrase, Existing::Keep).unwrap();
    assert!(keys.next().is_complete());

    // Interrupted in the middle: the secret is installed, the evaluation key is not.
    let kept = keys.next().evaluation_key().with_extension("kept");
    fs::rename(keys.next().evaluation_key(), &kept).unwrap();
    keys.install_next(old).unwrap();
    fs::rename(&kept, keys.next().evaluation_key()).unwrap();
    assert_eq!(keys.read_evaluation_key().unwrap().digest(), old.0);
    keys.finish_install().unwrap();
    assert_eq!(keys.read_evaluation_key().unwrap().digest(), new.0);
    assert!(!keys.next().evaluation_key().exists());
    assert_eq!(keys.replaced().unwrap(), [old]);

    for key in [old, new] {
        let secret = keys.read_secret_for(key, &passphrase).unwrap();
        assert_eq!(secret.client.evaluation_key(), key.0);
        assert_eq!(secret.tenant, second.tenant);
    }
    let unknown = keys.read_secret_for(Digest([0; 32]), &passphrase);
    assert!(matches!(unknown, Err(Error::NoSecretFor { .. })));
    // A second call does nothing.
    keys.install_next(old).unwrap();
    assert_eq!(keys.read_secret(&passphrase).unwrap().client.evaluation_key(), new.0);
}
