"""Writes vocab.txt and cases.json: texts and the ids that Hugging Face's tokenizers gives them. See README.md."""
import json
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

here = Path(__file__).parent
tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
tokens += [chr(c) for c in range(33, 127) if not chr(c).isupper()]
tokens += ["##" + chr(c) for c in range(33, 127) if not chr(c).isupper()]
tokens += "the cat un ##aff ##able ##ing sit ##t painting of a virus monster playing guitar cafe don 12 ##3 ##34 ü ß ##ß σ ##σ ς ##ς".split()
tokens += "中 国 日 本 東 京 ##中 한 ##국 ᄒ ##ᅡ ##ᆫ ñ ı ##ı œ 😀 ##😀 😎 – “ ” … € ° ﬁ ##ﬁ ² ##² ж ##ж й и ##и ё е ##е".split()
seen, vocab = set(), []
for t in tokens:
    if t not in seen:
        seen.add(t)
        vocab.append(t)
(here / "vocab.txt").write_text("\n".join(vocab) + "\n", encoding="utf-8")

tok = Tokenizer(WordPiece({t: i for i, t in enumerate(vocab)}, unk_token="[UNK]", max_input_chars_per_word=100))
tok.normalizer = BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True)
tok.pre_tokenizer = BertPreTokenizer()
tok.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
tok.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocab.index("[CLS]")), ("[SEP]", vocab.index("[SEP]"))])
tok.enable_truncation(77)
tok.enable_padding(length=77, pad_id=0, pad_token="[PAD]")

texts = [
    "", " ", "\t\r\n", "the cat", "The CAT", "unaffable", "UNAFFABLE!", "a painting of a virus monster playing guitar",
    "don't", "won't can't it's", "Café naïve résumé", "cafe\u0301", "ÀÉÎÕÜ", "Ångström", "über", "Straße STRASSE ß", "ẞ", "ΣΑΣ σας ς", "İstanbul I ı",
    "中国", "日本語東京", "the中cat", "\u2a6d6", "\U0002b820\U0002b921", "\uf900", "한국", "ㄱ", "ひらがな カタカナ", "ｆｕｌｌ",
    "😀", "cat😀", "😀😎 👍🏽", "👩\u200d👩\u200d👧", "❤\ufe0f", "12345", "1,234.5", "3.14%", "x=y^2+z_1", "$5 €5 5°", "²", "½ ﬁ ﬁt",
    "a" * 100, "a" * 101, "é" * 100, "é" * 51 + "e\u0301" * 50, "the " * 80, "the " * 75, "the " * 76, "x\u0000y", "x\ufffdy", "x\u00ady", "x\u200by", "x\u200ey", "x\ue000y",
    "x\u00a0y", "x\u2003y", "x\u3000y", "x\u2028y", "x\u0085y", "x\u000by", "x\u001fy", "x\u180ey", "x\u1680y", "\ufeffthe", "a\u0300\u0301b", "\u0300", "a \u0308 b",
    "[MASK]", "the [MASK] cat", "a[SEP]b", "[mask]", "[CLS][CLS]", "[ CLS ]", "[UNK]", "[PAD]x", "[[SEP]]", "##ing", "the##ing", "–—…“”‘’", "¿qué?", "a/b\\c", "e-mail@cat.the",
    "й и\u0306 Ё", "ǅ ǆ", "ŉ", "ﷺ", "\u0958", "नमस्ते", "ไทย", "שָׁלוֹם", "مرحبا،", "\U0001d400", "\U00010400", "\ua7aa", "K Å", "sit sitt sitting", "a\tb\nc\rd", "©®™", "«»", "\u037e", "\u0387",
]
cases = [{"text": t, "ids": tok.encode(t).ids, "tokens": tok.encode(t).tokens[:24]} for t in texts]
(here / "cases.json").write_text("[\n" + ",\n".join(json.dumps({"text": c["text"], "ids": c["ids"][: 1 + max(i for i, x in enumerate(c["ids"]) if x)]}) for c in cases) + "\n]\n")
print(len(cases), "cases")
