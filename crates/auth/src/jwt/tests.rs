use super::*;

const SECRET: &str = "a secret of the test, of 32 bytes";
const NOW: u64 = 1_800_000_000;
/// Made for this test alone by `openssl genpkey`.
const RSA: &str = include_str!("test-rsa.pem");
const ED25519: &str = include_str!("test-ed25519.pem");

fn names(issuer: &str, audience: &[&str]) -> Names {
    Names {
        issuer: issuer.to_owned(),
        audience: audience.iter().map(|&name| name.to_owned()).collect(),
    }
}

fn shared(issuer: &str, audience: &[&str]) -> Signer {
    Signer::from_secret(SECRET, names(issuer, audience)).expect("a secret")
}

fn claims(kind: TokenKind) -> Claims {
    Claims {
        iss: String::new(),
        aud: Audience::default(),
        sub: "user".into(),
        sid: "session".into(),
        typ: kind,
        jti: "1".into(),
        iat: NOW,
        nbf: NOW,
        exp: NOW + 60,
        email: Some("a@x.io".into()),
        verified: true,
    }
}

/// A token of these parts, signed by HMAC with `secret`.
fn forged(header: &Json, claims: &Json, secret: &[u8]) -> String {
    let part = |json: &Json| URL_SAFE_NO_PAD.encode(json.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
}

fn fine() -> Json {
    json!({"iss": "alyx", "sub": "user", "sid": "session", "typ": "access", "jti": "1",
           "iat": NOW, "nbf": NOW, "exp": NOW + 60})
}

#[test]
fn each_algorithm_verifies_its_own_tokens_and_no_others() {
    let signers = [
        shared("alyx", &[]),
        Signer::from_pem(ED25519, names("alyx", &[])).expect("Ed25519"),
        Signer::from_pem(RSA, names("alyx", &[])).expect("RSA"),
    ];
    for (at, signer) in signers.iter().enumerate() {
        let token = signer.sign(claims(TokenKind::Access));
        for (other, checker) in signers.iter().enumerate() {
            let verified = checker.verify(&token, TokenKind::Access, NOW);
            if at == other {
                let verified = verified.expect("its own");
                assert_eq!((verified.sub.as_str(), verified.iss.as_str()), ("user", "alyx"));
            } else {
                assert_eq!(verified, Err(TokenError::Invalid), "{signer:?} {checker:?}");
            }
        }
    }
}

#[test]
fn a_token_is_good_for_its_purpose_alone() {
    let signer = shared("alyx", &[]);
    let check = |made: TokenKind, asked: TokenKind, expected: bool| {
        let token = signer.sign(claims(made));
        assert_eq!(
            signer.verify(&token, asked, NOW).is_ok(),
            expected,
            "{made:?} {asked:?}"
        );
    };
    check(TokenKind::Access, TokenKind::Access, true);
    check(TokenKind::Refresh, TokenKind::Refresh, true);
    check(TokenKind::Access, TokenKind::Refresh, false);
    check(TokenKind::Refresh, TokenKind::Access, false);
}

#[test]
fn tokens_of_others_are_refused() {
    let check = |made: &Signer, checker: &Signer, expected: bool| {
        let token = made.sign(claims(TokenKind::Access));
        let verified = checker.verify(&token, TokenKind::Access, NOW);
        assert_eq!(verified.is_ok(), expected, "{made:?} {checker:?}");
    };
    check(&shared("alyx", &["app"]), &shared("alyx", &["app", "web"]), true);
    check(&shared("alyx", &["app"]), &shared("alyx", &[]), true);
    check(&shared("alyx", &["app"]), &shared("alyx", &["web"]), false);
    check(&shared("alyx", &[]), &shared("alyx", &["web"]), false);
    check(&shared("other", &[]), &shared("alyx", &[]), false);
    let another = Signer::from_secret(&"x".repeat(32), names("alyx", &[])).expect("a secret");
    check(&another, &shared("alyx", &[]), false);
}

#[test]
fn time_decides() {
    let signer = shared("alyx", &[]);
    let token = signer.sign(claims(TokenKind::Access));
    let check = |now: u64, expected: Option<TokenError>| {
        assert_eq!(
            signer.verify(&token, TokenKind::Access, now).err(),
            expected,
            "{now}"
        );
    };
    check(NOW, None);
    check(NOW + 59, None);
    check(NOW + 60, Some(TokenError::Expired));
    check(NOW - LEEWAY, None);
    check(NOW - LEEWAY - 1, Some(TokenError::Invalid));
    let refresh = signer.verify(&token, TokenKind::Refresh, NOW + 60);
    assert_eq!(
        refresh,
        Err(TokenError::Invalid),
        "nothing is said of a token for something else"
    );
}

#[test]
fn the_header_cannot_choose_how_it_is_checked() {
    let signer = shared("alyx", &[]);
    let check = |header: Json, expected: bool| {
        let token = forged(&header, &fine(), SECRET.as_bytes());
        let verified = signer.verify(&token, TokenKind::Access, NOW);
        assert_eq!(verified.is_ok(), expected, "{header}");
    };
    check(json!({"typ": "JWT", "alg": "HS256"}), true);
    check(json!({"alg": "none"}), false);
    check(json!({"alg": "HS512"}), false);
    check(json!({"alg": "hs256"}), false);
    check(json!({"alg": "HS256", "crit": ["b64"], "b64": false}), false);
    check(json!({"typ": "JWT"}), false);

    // The public key of an asymmetric signer, used as a shared secret.
    for pem in [ED25519, RSA] {
        let signer = Signer::from_pem(pem, names("alyx", &[])).expect("a key");
        let public = match &signer.key {
            Key::Hs256(_) => unreachable!("the key is a pair"),
            Key::EdDsa(key) => key.public_key().as_ref().to_vec(),
            Key::Rs256(key) => key.public().as_ref().to_vec(),
        };
        for secret in [&public[..], pem.as_bytes(), b""] {
            let token = forged(&json!({"alg": "HS256"}), &fine(), secret);
            assert_eq!(
                signer.verify(&token, TokenKind::Access, NOW),
                Err(TokenError::Invalid)
            );
        }
    }
}

#[test]
fn what_is_no_token_is_refused() {
    let signer = shared("alyx", &[]);
    let token = signer.sign(claims(TokenKind::Access));
    let (signed, signature) = token.rsplit_once('.').expect("a signature");
    let (header, payload) = signed.split_once('.').expect("a payload");
    for altered in [
        String::new(),
        ".".repeat(3),
        signed.to_owned(),
        format!("{signed}."),
        format!("{header}..{signature}"),
        format!("{header}.{}.{signature}", payload.replacen('e', "f", 1)),
        format!("{token}A"),
        format!("{token}.{signature}"),
        "A".repeat(MAX_TOKEN + 1),
    ] {
        assert_eq!(
            signer.verify(&altered, TokenKind::Access, NOW),
            Err(TokenError::Invalid),
            "{altered}"
        );
    }
    for missing in ["iss", "sub", "sid", "typ", "exp", "nbf", "jti"] {
        let mut claims = fine();
        claims.as_object_mut().expect("an object").remove(missing);
        let token = forged(&json!({"alg": "HS256"}), &claims, SECRET.as_bytes());
        assert_eq!(
            signer.verify(&token, TokenKind::Access, NOW),
            Err(TokenError::Invalid),
            "{missing}"
        );
    }
}

#[test]
fn public_keys_are_told_and_secrets_are_not() {
    assert_eq!(shared("alyx", &[]).jwks(), json!({"keys": []}));
    let check = |pem: &str, kind: &str, algorithm: &str| {
        let signer = Signer::from_pem(pem, names("alyx", &[])).expect("a key");
        let set = signer.jwks();
        let key = &set["keys"][0];
        assert_eq!(
            (key["kty"].as_str(), key["alg"].as_str()),
            (Some(kind), Some(algorithm))
        );
        let header = signer.sign(claims(TokenKind::Access));
        let header = URL_SAFE_NO_PAD
            .decode(header.split('.').next().expect("a header"))
            .expect("base64");
        let header: Json = serde_json::from_slice(&header).expect("JSON");
        assert_eq!(header["kid"], key["kid"]);
        for private in ["d", "p", "q", "k"] {
            assert!(key.get(private).is_none(), "{set}");
        }
    };
    check(ED25519, "OKP", "EdDSA");
    check(RSA, "RSA", "RS256");
}

#[test]
fn unusable_keys_are_named_without_their_content() {
    let check = |text: &str, part: &str| {
        let error = Signer::from_pem(text, Names::default())
            .expect_err("no key")
            .to_string();
        assert!(
            error.contains(part) && error.contains("openssl genpkey"),
            "{error}"
        );
    };
    check("hunter2", "no PEM");
    check(
        "-----BEGIN PRIVATE KEY-----\nhunter2!\n-----END PRIVATE KEY-----",
        "no PEM",
    );
    check(
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
        "cannot be used",
    );
    check(
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
        "`CERTIFICATE` cannot sign",
    );
    let short = Signer::from_secret("hunter2", Names::default())
        .expect_err("too short")
        .to_string();
    assert!(!short.contains("hunter2"), "{short}");
}
