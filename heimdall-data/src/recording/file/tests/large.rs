//! Files larger than memory, which exist only as far as they are read.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::{
    Attributes, CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::*;

/// A store with one object: a header, and 16-bit samples that tell their index.
#[derive(Debug)]
struct VirtualStore {
    header: Vec<u8>,
    size: u64,
    longest_read: AtomicU64,
    read: AtomicU64,
}

fn sample(index: u64) -> (i16, i16) {
    (index as i16, (index >> 16) as i16)
}

impl VirtualStore {
    fn byte(&self, at: u64) -> u8 {
        let Some(at) = at.checked_sub(self.header.len() as u64) else {
            return self.header[at as usize];
        };
        let (re, im) = sample(at / 4);
        let [a, b] = re.to_le_bytes();
        let [c, d] = im.to_le_bytes();
        [a, b, c, d][(at % 4) as usize]
    }
}

impl fmt::Display for VirtualStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("virtual store")
    }
}

fn read_only<T>() -> Result<T> {
    Err(Error::NotImplemented { operation: "write".to_owned(), implementer: "virtual".to_owned() })
}

#[async_trait]
impl ObjectStore for VirtualStore {
    async fn get_opts(&self, location: &ObjectPath, options: GetOptions) -> Result<GetResult> {
        if location.as_ref().ends_with(".json") {
            let (path, source) = (location.to_string(), "only one object".into());
            return Err(Error::NotFound { path, source });
        }
        let range = match options.range {
            Some(range) => range.as_range(self.size).unwrap(),
            None => 0..self.size,
        };
        let mut bytes = Bytes::new();
        if !options.head {
            let length = range.end - range.start;
            self.longest_read.fetch_max(length, Ordering::Relaxed);
            self.read.fetch_add(length, Ordering::Relaxed);
            bytes = range.clone().map(|at| self.byte(at)).collect();
        }
        Ok(GetResult {
            payload: GetResultPayload::Stream(stream::once(async { Ok(bytes) }).boxed()),
            meta: ObjectMeta {
                location: location.clone(),
                last_modified: Default::default(),
                size: self.size,
                e_tag: None,
                version: None,
            },
            range,
            attributes: Attributes::new(),
            extensions: Default::default(),
        })
    }

    async fn put_opts(&self, _: &ObjectPath, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        read_only()
    }

    async fn put_multipart_opts(
        &self,
        _: &ObjectPath,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        read_only()
    }

    fn delete_stream(
        &self,
        _: BoxStream<'static, Result<ObjectPath>>,
    ) -> BoxStream<'static, Result<ObjectPath>> {
        stream::once(async { read_only() }).boxed()
    }

    fn list(&self, _: Option<&ObjectPath>) -> BoxStream<'static, Result<ObjectMeta>> {
        stream::once(async { read_only() }).boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&ObjectPath>) -> Result<ListResult> {
        read_only()
    }

    async fn copy_opts(&self, _: &ObjectPath, _: &ObjectPath, _: CopyOptions) -> Result<()> {
        read_only()
    }
}

/// A WAV file of 10 GB (RF64), or what claims to be one.
fn wav_header(data_bytes: u64) -> Vec<u8> {
    let mut header = b"RF64\xff\xff\xff\xffWAVEds64\x1c\0\0\0".to_vec();
    header.extend((data_bytes + 76).to_le_bytes());
    header.extend(data_bytes.to_le_bytes());
    header.extend([0; 12]);
    header.extend(b"fmt \x10\0\0\0\x01\0\x02\0\x40\x42\x0f\0\0\x09\x3d\0\x04\0\x10\0");
    header.extend(b"data\xff\xff\xff\xff");
    header
}

#[tokio::test]
async fn ten_gigabytes_are_read_in_parts() {
    const COUNT: u64 = 2_500_000_000;
    let header = wav_header(4 * COUNT);
    let size = header.len() as u64 + 4 * COUNT;
    let store = Arc::new(VirtualStore {
        header,
        size,
        longest_read: AtomicU64::new(0),
        read: AtomicU64::new(0),
    });

    let key = ObjectPath::from("large.wav");
    let shared: Arc<dyn ObjectStore> = Arc::clone(&store) as _;
    let file = IqFile::open_object(shared, &key, &ReadOptions::default()).await.unwrap();

    let metadata = file.metadata();
    assert_eq!((metadata.sample_count, metadata.sample_rate_hz), (COUNT, 1e6));
    for start in [0, 1 << 16, 1 << 30, COUNT - 1000] {
        let expected = (start..start + 1000).map(|index| {
            let (re, im) = sample(index);
            Complex32::new(f32::from(re), f32::from(im)) / 32_768.0
        });
        assert!(file.samples(start..start + 1000).await.unwrap().into_iter().eq(expected));
    }
    let opened = store.read.load(Ordering::Relaxed);
    assert!(opened < 1024 * 1024, "opening and four parts took {opened} bytes");

    let mut chunks = file.chunks(1 << 20);
    for _ in 0..4 {
        assert_eq!(chunks.next_chunk().await.unwrap().unwrap().len(), 1 << 20);
    }
    let longest = store.longest_read.load(Ordering::Relaxed);
    assert!(longest <= 4 * 1024 * 1024, "one read took {longest} bytes");
}

/// Headers of small files that promise 2^60 samples.
#[tokio::test]
async fn header_that_lies_about_its_size_allocates_nothing_for_it() {
    let wav = wav_header(1 << 62);
    let file = IqFile::from_bytes("x.wav", wav, &ReadOptions::default()).await.unwrap();
    assert_eq!((file.metadata().sample_count, file.metadata().missing_sample_count), (0, 1 << 60));
    assert_eq!(file.read().await.unwrap().recording.samples, []);
}
