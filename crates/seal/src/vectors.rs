//! Opening published test vectors with the code that ships. A test, because nothing that ships takes a bulk key or an aad
//! as they are. `tests/vectors` prepares the vectors and reads what this prints.

use crate::aad::Aad;
use crate::aead::BulkKey;
use crate::key::Cipher;

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.strip_prefix('x').unwrap();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn key(secret: &[u8]) -> BulkKey {
    let cipher = match secret.len() {
        16 => Cipher::Aes128Gcm,
        24 => Cipher::Aes192Gcm,
        32 => Cipher::Aes256Gcm,
        other => panic!("a key of {other} bytes"),
    };
    BulkKey::new(cipher, secret, [0; 32]).unwrap()
}

/// Each line of the file that `PLINIUS_VECTORS` names is one vector: key, nonce, aad, ciphertext with tag, each `x` and
/// hexadecimal digits; then the plaintext in the same form, or `refused`.
#[test]
#[ignore = "fed by pytest tests/vectors"]
fn open_as_published() {
    let text = std::fs::read_to_string(std::env::var("PLINIUS_VECTORS").unwrap()).unwrap();
    let (mut opened, mut refused) = (0, 0);
    for (line, vector) in text.lines().enumerate() {
        let fields: Vec<&str> = vector.split(' ').collect();
        let [secret, nonce, aad, sealed, expected] = fields[..] else { panic!("line {line}") };
        let (key, nonce, aad) = (key(&bytes(secret)), bytes(nonce).try_into().unwrap(), Aad::verbatim(&bytes(aad)));
        let mut in_out = bytes(sealed);
        let (ciphertext, tag) = in_out.split_last_chunk().unwrap();
        let mut out = vec![0xee; ciphertext.len()];
        let elsewhere = key.open_into(&nonce, &aad, ciphertext, tag, &mut out);
        let in_place = key.open(&nonce, &aad, &mut in_out);
        if expected == "refused" {
            assert!(in_place.is_err() && elsewhere.is_err(), "line {line} was opened");
            refused += 1;
        } else {
            assert_eq!(in_place.unwrap(), bytes(expected), "line {line}");
            assert_eq!((elsewhere, out), (Ok(()), bytes(expected)), "line {line}");
            opened += 1;
        }
    }
    println!("vectors opened {opened} refused {refused}");
}
