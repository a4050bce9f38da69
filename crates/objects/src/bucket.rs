//! Objects of one bucket: put, got, listed, removed. Each request is signed, its body too.

use crate::credentials::Credentials;
use crate::exchange::{Answer, Exchange};
use crate::failure::Failure;
use crate::listing;
use crate::place::{Place, Settings};
use crate::sigv4::{Signed, Stamp};
use crypto::{hex, sha256};
use facts::{Finding, Timestamp};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::HeaderValue;
use hyper::{Request, StatusCode};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Of a refusal, for its code.
const LONGEST_ERROR: usize = 64 * 1024;
/// A page of a listing has a thousand names of at most a kibibyte, and a few words on each.
const LONGEST_LISTING: usize = 4 << 20;

/// What has to hold in the store for an object to be put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    /// There is none of that name.
    Absent,
    /// There is this one.
    Is(String),
}

/// An object that was got.
pub(crate) struct Object {
    /// `None`: more than was asked for.
    pub(crate) bytes: Option<Vec<u8>>,
    pub(crate) etag: Option<String>,
}

/// What became of a put.
pub(crate) enum Put {
    /// It is stored, under this tag.
    Stored(Option<String>),
    /// The condition does not hold.
    Unmet,
}

pub(crate) struct Bucket {
    place: Place,
    exchange: Arc<Exchange>,
    file: Option<PathBuf>,
    credentials: Arc<Mutex<Arc<Credentials>>>,
}

/// One request.
struct Asked<'a> {
    method: &'static str,
    key: &'a str,
    /// As it is signed.
    query: String,
    /// In the order of their names.
    headers: Vec<(&'static str, String)>,
    body: Bytes,
    most: usize,
}

impl<'a> Asked<'a> {
    const fn new(method: &'static str, key: &'a str, most: usize) -> Self {
        Self {
            method,
            key,
            query: String::new(),
            headers: Vec::new(),
            body: Bytes::new(),
            most,
        }
    }
}

impl Bucket {
    /// Reads what the settings name, and asks nobody. Blocks on the disk.
    pub(crate) fn open(settings: &Settings) -> Result<Self, Finding> {
        let place = Place::new(settings)?;
        let credentials = Credentials::read(settings.credentials.as_deref())?;
        let exchange = Exchange::open(place.clone(), settings.ca.as_deref(), settings.timeout);
        let exchange = exchange.map_err(|what| {
            Finding::new(
                "PUBLISH-CA",
                format!("the authorities of the object store cannot be used: {what}"),
            )
            .next("correct `ca` under [publish] in server.toml: a PEM file")
        })?;
        Ok(Self {
            place,
            exchange: Arc::new(exchange),
            file: settings.credentials.clone(),
            credentials: Arc::new(Mutex::new(Arc::new(credentials))),
        })
    }

    /// The same bucket, by the same connections and credentials, for names below another prefix.
    pub(crate) fn below(&self, prefix: &str) -> Result<Self, Finding> {
        Ok(Self {
            place: self.place.below(prefix)?,
            exchange: Arc::clone(&self.exchange),
            file: self.file.clone(),
            credentials: Arc::clone(&self.credentials),
        })
    }

    pub(crate) const fn place(&self) -> &Place {
        &self.place
    }

    /// The object of that name, of at most `most` bytes.
    pub(crate) async fn get(&self, name: &str, most: usize) -> Result<Option<Object>, Failure> {
        let key = self.place().key(name);
        let asked = Asked::new("GET", &key, most.max(LONGEST_ERROR));
        let answer = self.ask(asked).await?;
        match answer.status {
            StatusCode::OK => Ok(Some(Object {
                bytes: (answer.whole && answer.body.len() <= most).then_some(answer.body),
                etag: answer.etag,
            })),
            StatusCode::NOT_FOUND if !is_bucket_missing(&answer) => Ok(None),
            _ => Err(self.refused(&answer, &format!("to show {key}"))),
        }
    }

    pub(crate) async fn put(
        &self,
        name: &str,
        bytes: Bytes,
        kind: (&'static str, &'static str),
        condition: &Condition,
    ) -> Result<Put, Failure> {
        let key = self.place().key(name);
        let mut asked = Asked::new("PUT", &key, LONGEST_ERROR);
        let (content, cache) = kind;
        let condition = match condition {
            Condition::Absent => ("if-none-match", "*".to_owned()),
            Condition::Is(etag) => ("if-match", etag.clone()),
        };
        asked.headers = vec![
            ("cache-control", cache.to_owned()),
            ("content-type", content.to_owned()),
            condition,
        ];
        asked.body = bytes;
        let answer = self.ask(asked).await?;
        match answer.status {
            StatusCode::OK | StatusCode::CREATED | StatusCode::NO_CONTENT => {
                Ok(Put::Stored(answer.etag))
            }
            StatusCode::PRECONDITION_FAILED => Ok(Put::Unmet),
            // "If-Match" of an object that is there no more.
            StatusCode::NOT_FOUND if !is_bucket_missing(&answer) => Ok(Put::Unmet),
            StatusCode::NOT_IMPLEMENTED => Err(Failure::Refused(
                Finding::new(
                    "PUBLISH-CONDITIONS",
                    format!("the object store {} knows no conditional writes", self.place().shown()),
                )
                .expected("`If-None-Match` and `If-Match` of PutObject, by which a second server cannot overwrite this one")
                .next("use a store, or a newer version of it, that has them"),
            )),
            _ => Err(self.refused(&answer, &format!("to keep {key}"))),
        }
    }

    /// Keys that begin with `prefix`, as far as one page of the listing goes.
    pub(crate) async fn list(&self, prefix: &str) -> Result<Vec<String>, Failure> {
        let prefix = self.place().key(prefix).replace('/', "%2F");
        let mut asked = Asked::new("GET", "", LONGEST_LISTING);
        asked.query = format!("list-type=2&prefix={prefix}");
        let answer = self.ask(asked).await?;
        if answer.status != StatusCode::OK {
            return Err(self.refused(&answer, "to list its objects"));
        }
        let text = String::from_utf8_lossy(&answer.body);
        Ok(listing::listed_keys(&text).map(str::to_owned).collect())
    }

    pub(crate) async fn delete(&self, name: &str) -> Result<(), Failure> {
        let key = self.place().key(name);
        let answer = self.ask(Asked::new("DELETE", &key, LONGEST_ERROR)).await?;
        match answer.status {
            StatusCode::OK | StatusCode::NO_CONTENT => Ok(()),
            StatusCode::NOT_FOUND if !is_bucket_missing(&answer) => Ok(()),
            _ => Err(self.refused(&answer, &format!("to remove {key}"))),
        }
    }

    /// With the credentials as they are on disk now, if the store does not take those of before.
    async fn ask(&self, asked: Asked<'_>) -> Result<Answer, Failure> {
        let held = {
            let held = self.credentials.lock();
            Arc::clone(&held.unwrap_or_else(PoisonError::into_inner))
        };
        let answer = self.send(&asked, &held).await?;
        if !matches!(
            answer.status,
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED | StatusCode::BAD_REQUEST
        ) {
            return Ok(answer);
        }
        let file = self.file.clone();
        let read = tokio::task::spawn_blocking(move || Credentials::read(file.as_deref())).await;
        let Ok(Ok(newer)) = read else {
            return Ok(answer);
        };
        if newer.id == held.id && newer.secret == held.secret && newer.token == held.token {
            return Ok(answer);
        }
        let newer = Arc::new(newer);
        {
            let mut held = self
                .credentials
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *held = Arc::clone(&newer);
        }
        self.send(&asked, &newer).await
    }

    async fn send(&self, asked: &Asked<'_>, credentials: &Credentials) -> Result<Answer, Failure> {
        let again = |why: String| Failure::again(&self.place().shown(), why);
        let request = self.request(asked, credentials).map_err(again)?;
        let answer = self
            .exchange
            .ask(request, asked.most)
            .await
            .map_err(again)?;
        let busy = matches!(
            answer.status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS
        );
        let server =
            answer.status.is_server_error() && answer.status != StatusCode::NOT_IMPLEMENTED;
        if busy || server {
            return Err(again(said(&answer)));
        }
        Ok(answer)
    }

    fn request(
        &self,
        asked: &Asked<'_>,
        credentials: &Credentials,
    ) -> Result<Request<Full<Bytes>>, String> {
        let place = self.place();
        let stamp = Stamp::new(&Timestamp::now().to_string());
        let payload = hex::encode(&sha256(&asked.body));
        let mut headers = asked.headers.clone();
        headers.push(("host", place.authority.clone()));
        headers.push(("x-amz-content-sha256", payload.clone()));
        headers.push(("x-amz-date", stamp.as_str().to_owned()));
        if let Some(token) = &credentials.token {
            let token = String::from_utf8_lossy(token.expose()).into_owned();
            headers.push(("x-amz-security-token", token));
        }
        headers.sort_by_key(|(name, _)| *name);
        let path = place.path(asked.key);
        let signed = Signed {
            method: asked.method,
            path: &path,
            query: &asked.query,
            headers: &headers,
            payload: &payload,
        };
        let authorization = signed.authorization(credentials, &place.region, &stamp);
        let uri = match asked.query.as_str() {
            "" => path,
            query => format!("{path}?{query}"),
        };
        let mut request = Request::builder().method(asked.method).uri(uri);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let mut authorization =
            HeaderValue::from_str(&authorization).map_err(|error| error.to_string())?;
        authorization.set_sensitive(true);
        request
            .header("authorization", authorization)
            .header("user-agent", "trilith")
            .body(Full::new(asked.body.clone()))
            .map_err(|error| error.to_string())
    }

    fn refused(&self, answer: &Answer, what: &str) -> Failure {
        Failure::Refused(
            Finding::new(
                "PUBLISH-REFUSED",
                format!("the object store {} refuses {what}", self.place().shown()),
            )
            .observed(said(answer))
            .next("check endpoint, region, bucket and credentials under [publish] in server.toml, this machine's clock, and that the credentials may do s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket there"),
        )
    }
}

fn is_bucket_missing(answer: &Answer) -> bool {
    listing::error_code(&String::from_utf8_lossy(&answer.body)) == Some("NoSuchBucket")
}

fn said(answer: &Answer) -> String {
    let body = String::from_utf8_lossy(&answer.body);
    let status = answer.status.as_u16();
    listing::error_code(&body).map_or(format!("status {status}"), |code| {
        format!("status {status}, {code}")
    })
}
