//! Every form of stored weights, repacked by slabs: exact where it should be, and the same as built whole.
use chalot_formats::TensorType;
use chalot_formats::codec::{Decoded, TensorView};
use chalot_model::{LoadOptions, Model, Source, WeightsAs};
use chalot_tensor::matrix::{Format, Matrix, Packing, ScaleBy};

use crate::support::{GgufFile, Random, dense_layers, exec, tiny_gguf};

/// Random blocks of a type: any bytes, with scales that are small f16 numbers where the type has them.
fn blocks(ty: TensorType, elements: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    if let TensorType::F32 | TensorType::F16 | TensorType::BF16 = ty {
        let float = |random: &mut Random| match ty {
            TensorType::F32 => random.float().to_le_bytes().to_vec(),
            TensorType::F16 => half::f16::from_f32(random.float()).to_le_bytes().to_vec(),
            _ => half::bf16::from_f32(random.float()).to_le_bytes().to_vec(),
        };
        return (0..elements).flat_map(|_| float(&mut random)).collect();
    }
    let block = ty.block().unwrap();
    // Offsets of f16 scales (and minimums) in a block.
    let scales: &[usize] = match ty {
        TensorType::Q8_0 | TensorType::Q4_0 | TensorType::Q5_0 | TensorType::Q2_0 | TensorType::PQ2_0 => &[0],
        TensorType::Q4_1 | TensorType::Q4K | TensorType::Q5K => &[0, 2],
        TensorType::Q6K => &[208],
        TensorType::TQ1_0 => &[52],
        TensorType::TQ2_0 => &[64],
        TensorType::PTQ1_0 => &[26],
        _ => panic!("{ty}"),
    };
    let mut bytes = Vec::new();
    for _ in 0..elements / block.weights {
        let start = bytes.len();
        // Two-bit codes must not be 3: clear the low bit of such pairs.
        bytes.extend((0..block.bytes).map(|_| {
            let byte = random.bits() as u8;
            if matches!(ty, TensorType::TQ2_0 | TensorType::Q2_0 | TensorType::PQ2_0) {
                byte & !(byte >> 1 & 0x55)
            } else {
                byte
            }
        }));
        for at in scales {
            let scale = half::f16::from_f32(0.01 + 0.01 * random.float().abs());
            bytes[start + at..start + at + 2].copy_from_slice(&scale.to_le_bytes());
        }
    }
    bytes
}

/// A model whose embedding is a tensor of this type: tall enough for several slabs, the last one short.
fn model_with_embedding(ty: TensorType, rows: usize, bytes: &[u8]) -> GgufFile {
    tiny_wide().tensor("token_embd.weight", &[rows, 256], ty, bytes.to_vec())
}

/// As `tiny_gguf`, with a hidden size of 256.
fn tiny_wide() -> GgufFile {
    let file = tiny_gguf("llama").set("llama.embedding_length", 256u32).floats("output_norm.weight", &[256]);
    dense_layers(file, 256)
}

fn load(file: &GgufFile, weights: WeightsAs) -> Model {
    let folder = tempfile::tempdir().unwrap();
    let source = Source::open(&file.write(folder.path())).unwrap();
    source.load(&exec(), &LoadOptions { weights, ..LoadOptions::default() }).unwrap_or_else(|e| panic!("{e}"))
}

fn assert_same(a: &Matrix, b: &Matrix, what: &str) {
    assert_eq!(a.spec(), b.spec(), "{what}");
    assert!(a.image() == b.image(), "{what}: images differ");
}

const ROWS: usize = 2100;

#[test]
fn slabs_make_what_the_whole_tensor_makes() {
    let exec = exec();
    for ty in [
        TensorType::F32,
        TensorType::F16,
        TensorType::BF16,
        TensorType::Q8_0,
        TensorType::Q5_0,
        TensorType::Q4_0,
        TensorType::Q4_1,
        TensorType::Q4K,
        TensorType::Q5K,
        TensorType::Q6K,
        TensorType::TQ1_0,
        TensorType::TQ2_0,
        TensorType::Q2_0,
        TensorType::PQ2_0,
        TensorType::PTQ1_0,
    ] {
        let bytes = blocks(ty, ROWS * 256, ty.id().into());
        let view = TensorView::new("test", "t", ty, &[256, ROWS], &bytes).unwrap();
        let whole = match (ty, view.decode_rows(0..ROWS).unwrap()) {
            (TensorType::F16, _) => Matrix::from_f16_bits(&exec, ROWS, 256, &view.rows_u16(0..ROWS).unwrap()),
            (TensorType::BF16, _) => {
                Matrix::from_bf16_bits(&exec, ROWS, 256, &view.rows_u16(0..ROWS).unwrap())
            }
            (TensorType::F32, Decoded::Float(values)) => {
                Matrix::from_f32(&exec, Format::F32, ROWS, 256, &values)
            }
            (_, Decoded::Float(values)) => {
                Matrix::from_f32(&exec, Format::Int8(ScaleBy::Group(32)), ROWS, 256, &values)
            }
            (_, Decoded::Int8 { codes, scales }) => {
                Matrix::from_int8(&exec, ROWS, 256, &codes, ScaleBy::Group(32), &scales)
            }
            (_, Decoded::Int4 { codes, scales, mins }) => {
                Matrix::from_int4(&exec, ROWS, 256, &codes, &scales, mins.as_deref())
            }
            (_, Decoded::Ternary { codes, block, scales }) => {
                // 256 columns: one block of 256 is a row.
                let by = if block == 256 { ScaleBy::Row } else { ScaleBy::Group(block) };
                Matrix::from_ternary(&exec, Packing::Trit2, ROWS, 256, &codes, by, &scales)
            }
        };
        let file = model_with_embedding(ty, ROWS, &bytes);
        assert_same(&load(&file, WeightsAs::Auto).embedding, &whole.unwrap(), &ty.to_string());

        // The requests for one form, from whatever is stored.
        let values = view.to_f32().unwrap();
        let floats = load(&file, WeightsAs::F32).embedding;
        assert_eq!(floats.to_f32(), values, "{ty}");
        let int8 = Matrix::from_f32(&exec, Format::Int8(ScaleBy::Group(32)), ROWS, 256, &values).unwrap();
        let is_int8 = matches!(ty, TensorType::Q8_0 | TensorType::Q5_0);
        if !is_int8 {
            assert_same(&load(&file, WeightsAs::Int8).embedding, &int8, &ty.to_string());
        }
    }
}

/// Values survive to the bit where the form is kept.
#[test]
fn kept_forms_keep_their_values() {
    for ty in [
        TensorType::F16,
        TensorType::BF16,
        TensorType::Q8_0,
        TensorType::Q5_0,
        TensorType::TQ1_0,
        TensorType::PQ2_0,
    ] {
        let bytes = blocks(ty, ROWS * 256, 99);
        let values = TensorView::new("test", "t", ty, &[256, ROWS], &bytes).unwrap().to_f32().unwrap();
        assert_eq!(
            load(&model_with_embedding(ty, ROWS, &bytes), WeightsAs::Auto).embedding.to_f32(),
            values,
            "{ty}"
        );
    }
}

/// One scale repeated in every block is one scale; blocks of zeros may carry any; a scale for each row is
/// just that.
#[test]
fn the_coarsest_scale_that_is_exact() {
    let scale = |bytes: &mut [u8], block: usize, scale: f32| {
        bytes[block * 18..block * 18 + 2].copy_from_slice(&half::f16::from_f32(scale).to_le_bytes());
    };
    // 2100 rows of four blocks of 64.
    let mut bytes = blocks(TensorType::Q2_0, ROWS * 256, 5);
    (0..ROWS * 4).for_each(|block| scale(&mut bytes, block, 0.5));
    let form = |bytes: &[u8]| {
        let file = model_with_embedding(TensorType::Q2_0, ROWS, bytes);
        let embedding = load(&file, WeightsAs::Auto).embedding;
        let values =
            TensorView::new("test", "t", TensorType::Q2_0, &[256, ROWS], bytes).unwrap().to_f32().unwrap();
        assert_eq!(embedding.to_f32(), values);
        embedding.format().to_string()
    };
    assert_eq!(form(&bytes), "trit2/tensor");

    // A block of zeros (code 1 is weight 0) with another scale.
    bytes[18 * 7..18 * 8].fill(0b01_01_01_01);
    scale(&mut bytes, 7, 3.0);
    scale(&mut bytes, 0, 0.5);
    assert_eq!(form(&bytes), "trit2/tensor");

    (0..4).for_each(|block| scale(&mut bytes, 4 * 2000 + block, 0.25));
    assert_eq!(form(&bytes), "trit2/row");

    scale(&mut bytes, 4 * 2001 + 3, 0.125);
    assert_eq!(form(&bytes), "trit2/64");
}

/// I2_S: one scale at the end of the tensor, blocks that run over its rows.
#[test]
fn i2_s() {
    let mut random = Random::new(11);
    let mut bytes: Vec<u8> =
        (0..ROWS * 256 / 4).map(|_| random.bits() as u8).map(|b| b & !(b >> 1 & 0x55)).collect();
    bytes.extend(0.75f32.to_le_bytes());
    bytes.extend([0; 28]);
    let embedding = load(&model_with_embedding(TensorType::I2S, ROWS, &bytes), WeightsAs::Auto).embedding;
    assert_eq!(embedding.format().to_string(), "trit2/tensor");
    let values =
        TensorView::new("test", "t", TensorType::I2S, &[256, ROWS], &bytes).unwrap().to_f32().unwrap();
    assert_eq!(embedding.to_f32(), values);
}

/// Where a two-bit type makes use of its fourth code, the tensor is not ternary.
#[test]
fn a_fourth_code_makes_it_int8() {
    let mut bytes = blocks(TensorType::Q2_0, ROWS * 256, 6);
    bytes[18 * 100 + 5] = 0xff;
    let embedding = load(&model_with_embedding(TensorType::Q2_0, ROWS, &bytes), WeightsAs::Auto).embedding;
    assert_eq!(embedding.format().to_string(), "int8/32");
}

/// A `.scale` tensor multiplies the weight that it stands beside.
#[test]
fn scales_in_tensors_of_their_own() {
    let bytes = blocks(TensorType::TQ2_0, 256 * 256, 8);
    let file = tiny_wide().floats("token_embd.weight", &[40, 256]).tensor(
        "blk.0.attn_q.weight",
        &[256, 256],
        TensorType::TQ2_0,
        bytes.clone(),
    );
    let plain = load(&file, WeightsAs::Auto).layers[0].attention.q.weight.to_f32();
    let scaled = file.tensor("blk.0.attn_q.scale", &[1], TensorType::F32, 0.5f32.to_le_bytes().to_vec());
    let scaled = load(&scaled, WeightsAs::Auto).layers[0].attention.q.weight.clone();
    assert_eq!(scaled.format(), Format::Trit2(ScaleBy::Row));
    assert_eq!(scaled.to_f32(), plain.iter().map(|value| value * 0.5).collect::<Vec<_>>());
}

/// A layer's experts come out in one form, whatever each of them would have come to alone.
#[test]
fn experts_share_a_form() {
    let mut file = tiny_wide().floats("token_embd.weight", &[40, 256]);
    // All scales of the first expert are equal, those of the second differ from row to row.
    let mut gate = blocks(TensorType::TQ2_0, 2 * 16 * 256, 21);
    for row in 0..16 {
        gate[66 * row + 64..66 * (row + 1)].copy_from_slice(&half::f16::from_f32(0.5).to_le_bytes());
    }
    file = file.set("llama.expert_count", 2u32).set("llama.expert_used_count", 1u32);
    file = file.set("llama.expert_feed_forward_length", 16u32);
    for layer in 0..2 {
        for name in ["gate", "up", "down"] {
            file = file.without(&format!("blk.{layer}.ffn_{name}.weight"));
        }
        file = file
            .tensor(
                &format!("blk.{layer}.ffn_gate_exps.weight"),
                &[2, 16, 256],
                TensorType::TQ2_0,
                gate.clone(),
            )
            .floats(&format!("blk.{layer}.ffn_up_exps.weight"), &[2, 16, 256])
            .floats(&format!("blk.{layer}.ffn_down_exps.weight"), &[2, 256, 16])
            .floats(&format!("blk.{layer}.ffn_gate_inp.weight"), &[2, 256]);
    }
    let model = load(&file, WeightsAs::Auto);
    let chalot_model::Ffn::Experts(experts) = &model.layers[1].ffn else { panic!("experts") };
    let forms: Vec<String> =
        experts.experts.iter().map(|expert| expert.gate.weight.format().to_string()).collect();
    assert_eq!(forms, ["trit2/row", "trit2/row"]);
    let values =
        TensorView::new("test", "t", TensorType::TQ2_0, &[256, 32], &gate).unwrap().to_f32().unwrap();
    let loaded: Vec<f32> = experts.experts.iter().flat_map(|expert| expert.gate.weight.to_f32()).collect();
    assert_eq!(loaded, values);
}

#[test]
fn progress_reaches_its_end() {
    let calls = std::cell::RefCell::new(Vec::new());
    let note = |done, total| calls.borrow_mut().push((done, total));
    let source = Source::open(&crate::support::golden("olmoe")).unwrap();
    source.load(&exec(), &LoadOptions { progress: Some(&note), ..LoadOptions::default() }).unwrap();
    let calls = calls.into_inner();
    assert!(calls.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 == w[1].1));
    let &(done, total) = calls.last().unwrap();
    assert_eq!(done, total);
}
