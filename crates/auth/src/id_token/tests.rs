use ring::hmac;

use super::*;
use crate::jwt::{Names, Signer};

const NOW: u64 = 1_800_000_000;
const RSA: &str = include_str!("../jwt/test-rsa.pem");
const ED25519: &str = include_str!("../jwt/test-ed25519.pem");

const EXPECTED: Expected<'static> = Expected {
    issuer: "https://id.example.com",
    audience: "client",
    nonce: "n",
    now: NOW,
};

fn signer(pem: &str) -> Signer {
    let names = Names {
        issuer: String::new(),
        audience: Vec::new(),
    };
    Signer::from_pem(pem, names).expect("a key")
}

fn keys(signer: &Signer) -> KeySet {
    KeySet::parse(signer.jwks().to_string().as_bytes()).expect("a key set")
}

fn fine() -> Json {
    json!({"iss": EXPECTED.issuer, "aud": "client", "nonce": "n", "sub": "1", "iat": NOW, "exp": NOW + 300,
           "email": "a@x.io", "email_verified": true})
}

/// The claims with one of them changed, or removed by `null`.
fn but(name: &str, value: Json) -> Json {
    let mut claims = fine();
    if value.is_null() {
        claims.as_object_mut().expect("an object").remove(name);
    } else {
        claims[name] = value;
    }
    claims
}

fn verify(claims: &Json) -> Result<Profile, IdTokenError> {
    let signer = signer(ED25519);
    verify_id_token(&signer.sign_json(claims), &keys(&signer), &EXPECTED)
}

#[test]
fn a_token_that_is_right_says_who_it_is() {
    for pem in [RSA, ED25519] {
        let signer = signer(pem);
        let profile = verify_id_token(&signer.sign_json(&fine()), &keys(&signer), &EXPECTED).expect("right");
        assert_eq!(
            (profile.sub.as_str(), profile.email.as_deref()),
            ("1", Some("a@x.io"))
        );
        assert!(profile.email_verified() && !profile.domain_verified());
    }
}

#[test]
fn each_claim_is_checked() {
    use IdTokenError as E;
    let check = |claims: Json, expected: Result<(), E>| {
        assert_eq!(verify(&claims).map(|_| ()), expected, "{claims}");
    };
    check(but("iss", json!("https://evil.example.com")), Err(E::Issuer));
    check(but("iss", json!("https://id.example.com/")), Err(E::Issuer));
    check(but("iss", Json::Null), Err(E::Malformed));
    check(but("aud", json!("another")), Err(E::Audience));
    check(but("aud", json!([])), Err(E::Audience));
    check(but("aud", json!(["client"])), Ok(()));
    check(but("aud", json!(["client", "another"])), Err(E::Audience));
    let mut shared = but("aud", json!(["client", "another"]));
    shared["azp"] = json!("client");
    check(shared.clone(), Ok(()));
    shared["azp"] = json!("another");
    check(shared, Err(E::Audience));
    check(but("azp", json!("another")), Err(E::Audience));
    check(but("nonce", json!("m")), Err(E::Nonce));
    check(but("nonce", Json::Null), Err(E::Nonce));
    check(but("exp", json!(NOW - 60)), Err(E::Time));
    check(but("exp", json!(NOW - 59)), Ok(()));
    check(but("exp", Json::Null), Err(E::Malformed));
    check(but("iat", json!(NOW + 61)), Err(E::Time));
    check(but("nbf", json!(NOW + 61)), Err(E::Time));
    check(but("sub", json!("")), Err(E::Malformed));
    check(but("sub", Json::Null), Err(E::Malformed));
    check(but("sub", json!("x".repeat(256))), Err(E::Malformed));
}

#[test]
fn a_header_chooses_neither_key_nor_algorithm() {
    use IdTokenError as E;
    let (own, other) = (signer(RSA), signer(ED25519));
    let part = |json: &Json| URL_SAFE_NO_PAD.encode(json.to_string());
    let set = keys(&own);
    let check = |token: &str, expected: E| {
        assert_eq!(verify_id_token(token, &set, &EXPECTED), Err(expected), "{token}");
    };
    // Another key, under a name that is not in the set and under none.
    check(&other.sign_json(&fine()), E::UnknownKey);
    let unnamed = KeySet(
        set.0
            .iter()
            .map(|key| PublicKey {
                kid: None,
                ..key.clone()
            })
            .collect(),
    );
    let refused = verify_id_token(&other.sign_json(&fine()), &unnamed, &EXPECTED);
    assert_eq!(refused, Err(E::Algorithm));
    // Without a signature, and signed by the public key as if it were a shared secret.
    check(
        &format!("{}.{}.", part(&json!({"alg": "none"})), part(&fine())),
        E::Algorithm,
    );
    let jwks = own.jwks();
    let public = URL_SAFE_NO_PAD
        .decode(jwks["keys"][0]["n"].as_str().expect("a number"))
        .expect("base64");
    let signed = format!("{}.{}", part(&json!({"alg": "HS256"})), part(&fine()));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &public), signed.as_bytes());
    check(
        &format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref())),
        E::Algorithm,
    );
    // A signature of other claims.
    let token = own.sign_json(&fine());
    let (header, rest) = token.split_once('.').expect("parts");
    let (_, signature) = rest.split_once('.').expect("parts");
    let other_claims = part(&but("sub", json!("2")));
    check(&format!("{header}.{other_claims}.{signature}"), E::Signature);
    for nonsense in ["", ".", "..", "a.b.c", &"a".repeat(40_000)] {
        check(nonsense, E::Malformed);
    }
    let extended = part(&json!({"alg": "RS256", "crit": ["b64"], "b64": false}));
    check(&format!("{extended}.{}.AA", part(&fine())), E::Algorithm);
}

#[test]
fn a_tenant_is_part_of_the_issuer() {
    let expected = Expected {
        issuer: "https://login.example.com/{tenantid}/v2.0",
        ..EXPECTED
    };
    let signer = signer(ED25519);
    let check = |tid: Json, iss: &str, fits: bool| {
        let mut claims = but("tid", tid);
        claims["iss"] = json!(iss);
        let verified = verify_id_token(&signer.sign_json(&claims), &keys(&signer), &expected);
        assert_eq!(verified.is_ok(), fits, "{claims}");
    };
    check(json!("t-1"), "https://login.example.com/t-1/v2.0", true);
    check(json!("t-1"), "https://login.example.com/t-2/v2.0", false);
    check(json!("../x"), "https://login.example.com/../x/v2.0", false);
    check(Json::Null, "https://login.example.com/t-1/v2.0", false);
}

#[test]
fn verification_is_read_in_all_its_spellings() {
    for (value, expected) in [
        (json!(true), true),
        (json!("true"), true),
        (json!(1), true),
        (json!(false), false),
        (json!("false"), false),
        (json!(0), false),
        (json!({}), false),
        (Json::Null, false),
    ] {
        let profile = verify(&but("email_verified", value.clone())).expect("right");
        assert_eq!(profile.email_verified(), expected, "{value}");
    }
}

#[test]
fn keys_for_other_purposes_are_passed_over() {
    let set = json!({"keys": [
        {"kty": "oct", "k": "AA"},
        {"kty": "RSA", "use": "enc", "n": "AQAB", "e": "AQAB"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"},
        "nonsense",
    ]});
    let set = KeySet::parse(set.to_string().as_bytes()).expect("a key set");
    assert!(set.0.is_empty(), "{set:?}");
    assert!(KeySet::parse(b"{}").is_none() && KeySet::parse(b"nonsense").is_none());
}

/// P-256, as Apple signs and wants to be signed for: the proof is checked as an ID token is.
#[test]
fn a_proof_for_apple_is_a_token_of_es256() {
    let document =
        EcdsaKeyPair::generate_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
    let document = document.expect("a key");
    let der = base64::engine::general_purpose::STANDARD.encode(document.as_ref());
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----\n");
    let key = ClientKey::from_pem(&pem, "K1", "TEAM").expect("a key");
    let proof = key.proof("com.example.app", "https://appleid.apple.com", NOW);
    let point = signature::KeyPair::public_key(&key.key).as_ref().to_vec();
    let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let set = json!({"keys": [
        {"kty": "EC", "crv": "P-256", "kid": "K1", "x": number(&point[1..33]), "y": number(&point[33..])}
    ]});
    let set = KeySet::parse(set.to_string().as_bytes()).expect("a key set");
    let expected = Expected {
        issuer: "TEAM",
        audience: "https://appleid.apple.com",
        nonce: "",
        now: NOW,
    };
    // Everything but the nonce, which a proof does not have, is right.
    assert_eq!(verify_id_token(&proof, &set, &expected), Err(IdTokenError::Nonce));
    let (signed, _) = proof.rsplit_once('.').expect("parts");
    assert_eq!(
        verify_id_token(&format!("{signed}.AAAA"), &set, &expected),
        Err(IdTokenError::Signature)
    );
    assert!(ClientKey::from_pem(RSA, "K1", "TEAM").is_err());
    assert!(ClientKey::from_pem("hunter2", "K1", "TEAM").is_err());
    assert!(!format!("{key:?}").contains(&der[..20]));
}
