#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| samara_tests::fuzz::archive_documents(data));
