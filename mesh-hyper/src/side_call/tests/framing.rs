use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// However the bytes are cut, the messages come out whole.
    #[test]
    fn framing_survives_any_cut(
        messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let bytes: Bytes = messages.iter().flat_map(|message| framed(message)).collect();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let mut decoder = Decoder::new(Limits { max_message: 40 });
        let mut decoded = Vec::new();
        for cut in cuts.windows(2) {
            decoder.push(bytes.slice(cut[0]..cut[1]));
            while let Some(message) = decoder.next().expect("valid") {
                decoded.push(message.to_vec());
            }
        }
        prop_assert_eq!(decoded, messages);
        prop_assert!(!decoder.is_midway());
    }
}

#[test]
fn framing_survives_a_cut_at_every_byte() {
    let bytes: Bytes = [&b"one"[..], b"", b"three"]
        .iter()
        .flat_map(|message| framed(message))
        .collect();
    for size in 1..bytes.len() {
        let mut decoder = Decoder::new(Limits { max_message: 5 });
        let mut decoded = Vec::new();
        for chunk in bytes.chunks(size) {
            decoder.push(Bytes::copy_from_slice(chunk));
            while let Some(message) = decoder.next().expect("valid") {
                decoded.push(message);
            }
        }
        assert_eq!(decoded, ["one", "", "three"]);
    }
}
