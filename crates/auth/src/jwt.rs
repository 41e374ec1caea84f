//! Tokens of sessions: JSON Web Tokens (RFC 7519) in the compact form of RFC 7515.
//!
//! **Invariants:** a signer knows one algorithm, which its key decides, and takes no other, whatever a token's header
//! says; a token is good for one purpose, its `typ`; issuer and audience are those of this server.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{self, Ed25519KeyPair, KeyPair as _, RsaKeyPair, UnparsedPublicKey};
use ring::{hmac, rsa};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::seal::Sealer;
use crate::secret::token_digest;

/// Longest token that is looked at, in bytes.
const MAX_TOKEN: usize = 8 * 1024;
/// Shortest secret of HS256 in bytes (RFC 7518, section 3.2).
const MIN_SECRET: usize = 32;
/// How far the clocks of two servers may be apart, in seconds.
const LEEWAY: u64 = 5;

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenKind {
    /// Shows who asks.
    Access,
    /// Gets new tokens, once.
    Refresh,
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    /// Who made it; set by the signer.
    #[serde(default)]
    pub iss: String,
    /// For whom it was made; set by the signer.
    #[serde(default, skip_serializing_if = "Audience::is_empty")]
    pub aud: Audience,
    /// The account.
    pub sub: String,
    /// The session.
    pub sid: String,
    /// What it is for.
    pub typ: TokenKind,
    /// A name of its own.
    pub jti: String,
    /// When it was made, in seconds of Unix time.
    pub iat: u64,
    /// From when it is good.
    pub nbf: u64,
    /// Until when it is good.
    pub exp: u64,
    /// The account's address, for clients to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Whether the account has shown that the address is its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub verified: bool,
}

/// `aud`: one name, or several (RFC 7519, section 4.1.3).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Audience(Vec<String>);

impl Audience {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|one| one == name)
    }
}

impl<'de> Deserialize<'de> for Audience {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Names {
            One(String),
            Several(Vec<String>),
        }
        Ok(Self(match Names::deserialize(deserializer)? {
            Names::One(name) => vec![name],
            Names::Several(names) => names,
        }))
    }
}

/// Who makes tokens, and for whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// `iss`.
    pub issuer: String,
    /// `aud`; where it is empty, tokens carry none and none is asked for.
    pub audience: Vec<String>,
}

/// Why a token is no good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenError {
    /// It is none of ours, or for something else.
    Invalid,
    /// It was one of ours.
    Expired,
}

/// Why a key cannot be used. The text never holds any of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyError(String);

impl KeyError {
    pub(crate) fn new(why: &str) -> Self {
        Self(why.to_owned())
    }
}

impl std::fmt::Display for KeyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for KeyError {}

/// Makes and checks tokens with one key.
pub struct Signer {
    key: Key,
    names: Names,
    kid: String,
    /// Base64 of the header, which all its tokens share.
    header: String,
    sealer: Sealer,
}

enum Key {
    Hs256(hmac::Key),
    EdDsa(Ed25519KeyPair),
    Rs256(Box<RsaKeyPair>),
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    /// Extensions that must be understood (RFC 7515, section 4.1.11); none is.
    #[serde(default)]
    crit: Option<Json>,
}

impl Signer {
    /// Signs with HS256.
    ///
    /// # Errors
    ///
    /// The secret has fewer than 32 bytes.
    pub fn from_secret(secret: &str, names: Names) -> Result<Self, KeyError> {
        if secret.len() < MIN_SECRET {
            let message = format!("the secret has fewer than {MIN_SECRET} bytes");
            return Err(KeyError(message));
        }
        // The name of the key must not be derived from the key itself, which is secret.
        Ok(Self::new(
            Key::Hs256(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())),
            None,
            names,
            Sealer::derive(secret.as_bytes()),
        ))
    }

    /// Signs with the private key of a PEM file: Ed25519 (EdDSA) or RSA of 2048 bits or more (RS256).
    ///
    /// # Errors
    ///
    /// The text holds no such key.
    pub fn from_pem(pem: &str, names: Names) -> Result<Self, KeyError> {
        const KINDS: &str = "write the private key of Ed25519 (`openssl genpkey -algorithm ed25519`) or of RSA with 2048 \
                             bits or more (`openssl genpkey -algorithm rsa`)";
        let (label, der) = read_pem(pem).ok_or_else(|| KeyError(format!("this is no PEM file; {KINDS}")))?;
        let sealer = Sealer::derive(&der);
        if label == "PRIVATE KEY"
            && let Ok(key) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der)
        {
            let public = key.public_key().as_ref().to_vec();
            return Ok(Self::new(Key::EdDsa(key), Some(&public), names, sealer));
        }
        let key = match label {
            "PRIVATE KEY" => RsaKeyPair::from_pkcs8(&der),
            "RSA PRIVATE KEY" => RsaKeyPair::from_der(&der),
            _ => return Err(KeyError(format!("a `{label}` cannot sign; {KINDS}"))),
        };
        let key = key.map_err(|error| KeyError(format!("the key cannot be used ({error}); {KINDS}")))?;
        let public = key.public().as_ref().to_vec();
        Ok(Self::new(Key::Rs256(Box::new(key)), Some(&public), names, sealer))
    }

    fn new(key: Key, public: Option<&[u8]>, names: Names, sealer: Sealer) -> Self {
        let kid = public.map_or_else(
            || "shared".to_owned(),
            |public| URL_SAFE_NO_PAD.encode(&token_digest(&URL_SAFE_NO_PAD.encode(public))[..12]),
        );
        let header = json!({"alg": key.algorithm(), "typ": "JWT", "kid": kid});
        let header = URL_SAFE_NO_PAD.encode(header.to_string());
        Self {
            key,
            names,
            kid,
            header,
            sealer,
        }
    }

    /// Seals what browsers keep, with a key that follows from this one.
    pub fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// A token that says that, in this server's name.
    pub fn sign(&self, claims: Claims) -> String {
        let claims = Claims {
            iss: self.names.issuer.clone(),
            aud: Audience(self.names.audience.clone()),
            ..claims
        };
        self.sign_bytes(&serde_json::to_vec(&claims).expect("claims are plain text and numbers"))
    }

    /// A token of any claims.
    #[cfg(test)]
    pub(crate) fn sign_json(&self, claims: &Json) -> String {
        self.sign_bytes(claims.to_string().as_bytes())
    }

    fn sign_bytes(&self, claims: &[u8]) -> String {
        let signed = format!("{}.{}", self.header, URL_SAFE_NO_PAD.encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    /// What a token says, where it is ours, for that purpose, and good at `now` (seconds of Unix time).
    ///
    /// # Errors
    ///
    /// `Expired` only where all else is right.
    pub fn verify(&self, token: &str, kind: TokenKind, now: u64) -> Result<Claims, TokenError> {
        self.read(token, kind, now).unwrap_or(Err(TokenError::Invalid))
    }

    /// `None` where it is not ours.
    fn read(&self, token: &str, kind: TokenKind, now: u64) -> Option<Result<Claims, TokenError>> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        if header != self.header {
            // Another order of keys is as good, another algorithm is not.
            let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
            if header.alg != self.key.algorithm() || header.crit.is_some() {
                return None;
            }
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        if !self.key.verifies(signed.as_bytes(), &signature) {
            return None;
        }
        let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        let audience = &self.names.audience;
        let for_us = audience.is_empty() || claims.aud.0.iter().any(|name| audience.contains(name));
        if claims.iss != self.names.issuer || !for_us || claims.typ != kind || claims.nbf > now + LEEWAY {
            return None;
        }
        Some(if claims.exp <= now {
            Err(TokenError::Expired)
        } else {
            Ok(claims)
        })
    }

    /// The public key as a JSON Web Key Set (RFC 7517), for those who check tokens themselves; without keys where the
    /// key is a shared secret.
    pub fn jwks(&self) -> Json {
        let keys: Vec<Json> = match &self.key {
            Key::Hs256(_) => Vec::new(),
            Key::EdDsa(key) => vec![json!({
                "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": self.kid,
                "x": URL_SAFE_NO_PAD.encode(key.public_key().as_ref()),
            })],
            Key::Rs256(key) => {
                let parts = rsa::PublicKeyComponents::<Vec<u8>>::from(key.public());
                vec![json!({
                    "kty": "RSA", "alg": "RS256", "use": "sig", "kid": self.kid,
                    "n": URL_SAFE_NO_PAD.encode(parts.n), "e": URL_SAFE_NO_PAD.encode(parts.e),
                })]
            }
        };
        json!({ "keys": keys })
    }
}

impl Key {
    const fn algorithm(&self) -> &'static str {
        match self {
            Self::Hs256(_) => "HS256",
            Self::EdDsa(_) => "EdDSA",
            Self::Rs256(_) => "RS256",
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Hs256(key) => hmac::sign(key, message).as_ref().to_vec(),
            Self::EdDsa(key) => key.sign(message).as_ref().to_vec(),
            Self::Rs256(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(
                    &signature::RSA_PKCS1_SHA256,
                    &SystemRandom::new(),
                    message,
                    &mut signature,
                )
                .expect("the buffer has the length of the key's modulus");
                signature
            }
        }
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Hs256(key) => hmac::verify(key, message, signature).is_ok(),
            Self::EdDsa(key) => UnparsedPublicKey::new(&signature::ED25519, key.public_key())
                .verify(message, signature)
                .is_ok(),
            Self::Rs256(key) => UnparsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA256, key.public())
                .verify(message, signature)
                .is_ok(),
        }
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer")
            .field("algorithm", &self.key.algorithm())
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

/// Label and content of the first block of a PEM file (RFC 7468).
pub(crate) fn read_pem(text: &str) -> Option<(&str, Vec<u8>)> {
    let (_, rest) = text.split_once("-----BEGIN ")?;
    let (label, rest) = rest.split_once("-----")?;
    let (content, _) = rest.split_once("-----END ")?;
    let content: String = content.chars().filter(|c| !c.is_whitespace()).collect();
    Some((label, STANDARD.decode(content).ok()?))
}

#[cfg(test)]
mod tests;
