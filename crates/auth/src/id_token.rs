//! ID tokens of other providers (OpenID Connect Core 1.0, section 3.1.3.7), and the proof of ourselves that Apple
//! wants.
//!
//! **Invariants:** the algorithm is one of the key's own, whatever a token's header says, and never one with a shared
//! secret; a token is from that issuer, for this client, of this login (`nonce`), and of now.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use crate::jwt::{Audience, KeyError, read_pem};

/// Longest token that is looked at, in bytes.
const MAX_TOKEN: usize = 32 * 1024;
/// Keys of a set that are looked at.
const MAX_KEYS: usize = 64;
/// How far the provider's clock and ours may be apart, in seconds.
const LEEWAY: u64 = 60;
/// Longest `sub` (OpenID Connect Core, section 2).
const MAX_SUBJECT: usize = 255;
/// How long a proof for Apple is good, in seconds.
const PROOF_LIFETIME: u64 = 300;

/// A provider's public keys (RFC 7517).
#[derive(Debug, Clone, Default)]
pub struct KeySet(Vec<PublicKey>);

#[derive(Debug, Clone)]
struct PublicKey {
    kid: Option<String>,
    material: Material,
}

#[derive(Debug, Clone)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// An uncompressed point.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<Json>,
}

#[derive(Deserialize)]
struct RawKey {
    kty: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default, rename = "use")]
    purpose: Option<String>,
    #[serde(default)]
    crv: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
}

impl KeySet {
    /// The keys that can check signatures; others in the set are passed over. `None` where it is no key set.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let set: RawSet = serde_json::from_slice(text).ok()?;
        let keys = set.keys.into_iter().take(MAX_KEYS);
        let keys = keys.filter_map(|key| PublicKey::read(serde_json::from_value(key).ok()?));
        Some(Self(keys.collect()))
    }

    /// Whether a key of that name is there; a token without a name may be of any.
    fn candidates(&self, kid: Option<&str>) -> impl Iterator<Item = &PublicKey> {
        let named = move |key: &&PublicKey| kid.is_none() || key.kid.is_none() || key.kid.as_deref() == kid;
        self.0.iter().filter(named)
    }
}

impl PublicKey {
    fn read(raw: RawKey) -> Option<Self> {
        if raw.purpose.is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let number = |text: &str| Some(URL_SAFE_NO_PAD.decode(text).ok()?).filter(|bytes| !bytes.is_empty());
        let material = match (raw.kty.as_str(), raw.crv.as_str()) {
            ("RSA", _) => Material::Rsa {
                n: without_zeros(number(&raw.n)?),
                e: without_zeros(number(&raw.e)?),
            },
            ("EC", "P-256") => {
                let (x, y) = (number(&raw.x)?, number(&raw.y)?);
                if x.len() != 32 || y.len() != 32 {
                    return None;
                }
                Material::P256([&[4][..], &x, &y].concat())
            }
            ("OKP", "Ed25519") => Material::Ed25519(number(&raw.x)?),
            _ => return None,
        };
        Some(Self {
            kid: raw.kid,
            material,
        })
    }

    /// Whether a token that says `algorithm` may have been signed by it.
    fn has(&self, algorithm: &str) -> bool {
        match self.material {
            Material::Rsa { .. } => matches!(algorithm, "RS256" | "RS384" | "RS512"),
            Material::P256(_) => algorithm == "ES256",
            Material::Ed25519(_) => matches!(algorithm, "EdDSA" | "Ed25519"),
        }
    }

    fn verifies(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Rsa { n, e } => {
                let parameters = match algorithm {
                    "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
                    "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
                    _ => &signature::RSA_PKCS1_2048_8192_SHA256,
                };
                RsaPublicKeyComponents { n, e }
                    .verify(parameters, message, signature)
                    .is_ok()
            }
            Material::P256(point) => UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point)
                .verify(message, signature)
                .is_ok(),
            Material::Ed25519(key) => UnparsedPublicKey::new(&signature::ED25519, key)
                .verify(message, signature)
                .is_ok(),
        }
    }
}

/// `ring` refuses numbers that begin with zeros, which some providers write.
fn without_zeros(bytes: Vec<u8>) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes[zeros..].to_vec()
}

/// What a token must say.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// `iss`; `{tenantid}` in it stands for the token's own `tid`, as Microsoft has it.
    pub issuer: &'a str,
    /// The client id, in `aud`.
    pub audience: &'a str,
    /// Of the request that began the login.
    pub nonce: &'a str,
    /// Seconds of Unix time.
    pub now: u64,
}

/// What is wrong with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdTokenError {
    /// It is none.
    Malformed,
    /// No key of that name is known: there may be newer ones.
    UnknownKey,
    /// Its algorithm is not one of the key's.
    Algorithm,
    /// Its signature is not the key's.
    Signature,
    /// It is from somebody else.
    Issuer,
    /// It is for somebody else.
    Audience,
    /// It is of another login.
    Nonce,
    /// It has expired, or is of the future.
    Time,
}

impl std::fmt::Display for IdTokenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Malformed => "it is malformed",
            Self::UnknownKey => "the provider has no key of the name that it gives",
            Self::Algorithm => "its algorithm is not one of the key's",
            Self::Signature => "its signature is not the provider's",
            Self::Issuer => "it is from another issuer",
            Self::Audience => "it is for another client",
            Self::Nonce => "it belongs to another login",
            Self::Time => "it has expired, or the provider's clock and this server's are apart",
        })
    }
}

impl std::error::Error for IdTokenError {}

/// What a provider says about somebody: in an ID token, or at its endpoint for that.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Profile {
    /// Who it is, for this provider for good.
    #[serde(default)]
    pub sub: String,
    /// An address.
    #[serde(default)]
    pub email: Option<String>,
    /// Whether the provider has seen that the address is theirs; some write it as text.
    #[serde(default)]
    email_verified: Json,
    /// Microsoft: whether the owner of the address' domain vouches for it.
    #[serde(default)]
    xms_edov: Json,
}

impl Profile {
    /// Whether the provider says that the address is theirs.
    pub fn email_verified(&self) -> bool {
        is_true(&self.email_verified)
    }

    /// Whether the owner of the address' domain says so.
    pub fn domain_verified(&self) -> bool {
        is_true(&self.xms_edov)
    }
}

fn is_true(json: &Json) -> bool {
    match json {
        Json::Bool(is) => *is,
        Json::Number(number) => number.as_u64() == Some(1),
        Json::String(text) => matches!(text.as_str(), "true" | "1"),
        Json::Null | Json::Array(_) | Json::Object(_) => false,
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    crit: Option<Json>,
}

#[derive(Deserialize)]
struct IdClaims {
    iss: String,
    aud: Audience,
    #[serde(default)]
    azp: Option<String>,
    exp: f64,
    iat: f64,
    #[serde(default)]
    nbf: f64,
    #[serde(default)]
    nonce: Option<String>,
    #[serde(default)]
    tid: Option<String>,
}

/// Who an ID token is about, where it is right in every respect.
///
/// # Errors
///
/// What is wrong with it, first of all whether its signature is right.
pub fn verify_id_token(token: &str, keys: &KeySet, expected: &Expected<'_>) -> Result<Profile, IdTokenError> {
    use IdTokenError as E;
    let bytes = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| E::Malformed);
    if token.len() > MAX_TOKEN {
        return Err(E::Malformed);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(E::Malformed)?;
    let (header, claims) = signed.split_once('.').ok_or(E::Malformed)?;
    let header: Header = serde_json::from_slice(&bytes(header)?).map_err(|_| E::Malformed)?;
    if header.crit.is_some() {
        return Err(E::Algorithm);
    }
    let mut named = keys.candidates(header.kid.as_deref()).peekable();
    if named.peek().is_none() {
        return Err(E::UnknownKey);
    }
    let mut fitting = named.filter(|key| key.has(&header.alg)).peekable();
    if fitting.peek().is_none() {
        return Err(E::Algorithm);
    }
    let signature = bytes(signature)?;
    if !fitting.any(|key| key.verifies(&header.alg, signed.as_bytes(), &signature)) {
        return Err(E::Signature);
    }
    let claims = bytes(claims)?;
    check(
        &serde_json::from_slice(&claims).map_err(|_| E::Malformed)?,
        expected,
    )?;
    let profile: Profile = serde_json::from_slice(&claims).map_err(|_| E::Malformed)?;
    if profile.sub.is_empty() || profile.sub.len() > MAX_SUBJECT {
        return Err(E::Malformed);
    }
    Ok(profile)
}

fn check(claims: &IdClaims, expected: &Expected<'_>) -> Result<(), IdTokenError> {
    use IdTokenError as E;
    let tenant = claims.tid.as_deref().filter(|tid| {
        !tid.is_empty()
            && tid
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    });
    let issuer = match tenant {
        Some(tenant) => expected.issuer.replace("{tenantid}", tenant),
        None => expected.issuer.to_owned(),
    };
    if claims.iss != issuer {
        return Err(E::Issuer);
    }
    let for_us = claims.aud.has(expected.audience);
    let others_too = claims.aud.len() > 1;
    let presented_by_us = match &claims.azp {
        Some(party) => party == expected.audience,
        None => !others_too,
    };
    if !for_us || !presented_by_us {
        return Err(E::Audience);
    }
    if claims.nonce.as_deref() != Some(expected.nonce) {
        return Err(E::Nonce);
    }
    let (now, leeway) = (expected.now as f64, LEEWAY as f64);
    if claims.exp + leeway <= now || claims.iat > now + leeway || claims.nbf > now + leeway {
        return Err(E::Time);
    }
    Ok(())
}

/// Makes proofs of a client by a private key in place of a secret, as Apple wants them.
pub struct ClientKey {
    key: EcdsaKeyPair,
    key_id: String,
    team: String,
}

impl ClientKey {
    /// The private key (P-256) of a PEM file, its name, and who it belongs to.
    ///
    /// # Errors
    ///
    /// The text holds no such key.
    pub fn from_pem(pem: &str, key_id: &str, team: &str) -> Result<Self, KeyError> {
        let unusable = || KeyError::new("this is no private key for ES256 (a `.p8` file as Apple gives it)");
        let (label, der) = read_pem(pem).ok_or_else(unusable)?;
        if label != "PRIVATE KEY" {
            return Err(unusable());
        }
        let kind = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let key = EcdsaKeyPair::from_pkcs8(kind, &der, &SystemRandom::new()).map_err(|_| unusable())?;
        Ok(Self {
            key,
            key_id: key_id.to_owned(),
            team: team.to_owned(),
        })
    }

    /// A proof that `client` is ours, for that issuer, good for five minutes from `now` on.
    pub fn proof(&self, client: &str, issuer: &str, now: u64) -> String {
        let header = json!({"alg": "ES256", "kid": self.key_id});
        let claims = json!({
            "iss": self.team, "sub": client, "aud": issuer, "iat": now, "exp": now + PROOF_LIFETIME,
        });
        let part = |json: &Json| URL_SAFE_NO_PAD.encode(json.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = self
            .key
            .sign(&SystemRandom::new(), signed.as_bytes())
            .expect("only the system's randomness could fail");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

impl std::fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientKey")
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
