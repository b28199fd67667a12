// Package wordpiece turns text into the tokens of bert-base-uncased, as text-conditioned models were trained with.
//
// Concept: a [Vocab] is the user's vocab.txt, one token a line, the line's number being the token's id. Text is cut at the
// vocabulary's special tokens, cleaned (control characters dropped, every white space a space), given spaces around CJK ideographs,
// decomposed and stripped of accents, lowered, split at white space and around punctuation, and each word is covered from left
// to right by the longest tokens that match, "##" marking those inside a word (Wu et al. 2016; Devlin et al. 2019). The steps are
// those of the fast tokenizer of Hugging Face's tokenizers, which the reference uses; characters that Unicode added after its tables
// were made may differ.
//
// Data flow: text in, ids out; nothing is kept. Ownership: a Vocab is read-only and may be shared. Errors: files that are no
// vocabulary, naming file and line, of class data.
package wordpiece
