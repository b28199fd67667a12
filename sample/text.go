package sample

import (
	"slices"

	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/wordpiece"
)

// CanText says whether a model is conditioned on captions.
func CanText(m *nn.Model) bool { return hasTokens(m) && m.Config.Diffusion.CondStageKey != layoutKey }

func hasTokens(m *nn.Model) bool {
	return m.Conditioner != nil && m.Conditioner.Config.Kind == nn.BERTEmbedder && m.Config.Diffusion.ConditioningKey == nn.CrossAttn
}

// TextLength is the number of tokens of a caption, special ones and padding included.
func TextLength(m *nn.Model) int { return m.Conditioner.Config.MaxSeqLen }

// TextTokens are the tokens of a caption, exactly max of them: [CLS], the words, [SEP] and [PAD]s. truncated says that words did
// not fit and were dropped at the end. The empty caption is what guidance of text models starts from.
func TextTokens(v *wordpiece.Vocab, caption string, max int) (ids []int, truncated bool) {
	return v.Encode(caption, max)
}

// TextCondition is the condition for captions, given by their tokens: the contexts, N x [TextLength] x context_dim, of the
// model's text encoder (reference: BERTEmbedder; padding is attended to as any token).
func TextCondition(s *engine.Session, tokens [][]int) (Condition, error) {
	if !CanText(s.Model) {
		return Condition{}, exitcode.Errorf(exitcode.Usage, "%s: the model is not conditioned on captions by a BERTEmbedder; hybrid and CLIP conditions are not supported", s.Model.Config.Path)
	}
	return tokenCondition(s, tokens)
}

// tokenCondition runs a token embedder.
func tokenCondition(s *engine.Session, tokens [][]int) (Condition, error) {
	c := s.Model.Conditioner.Config
	in := make([]float32, 0, len(tokens)*c.MaxSeqLen)
	for i, row := range tokens {
		if len(row) != c.MaxSeqLen {
			return Condition{}, exitcode.Errorf(exitcode.Internal, "sequence %d of the batch has %d tokens, want %d", i, len(row), c.MaxSeqLen)
		}
		for _, t := range row {
			if t < 0 || t >= c.VocabSize {
				return Condition{}, exitcode.Errorf(exitcode.Data, "token %d is not in 0..%d: the vocabulary is not the one of this model", t, c.VocabSize-1)
			}
			in = append(in, float32(t))
		}
	}
	net, err := s.Conditioner(len(tokens), 1, 1)
	if err != nil {
		return Condition{}, err
	}
	out, err := net.Run(map[string][]float32{"tokens": in})
	if err != nil {
		return Condition{}, err
	}
	if err := engine.Finite("condition", out[0]); err != nil {
		return Condition{}, err
	}
	return Condition{Context: slices.Clone(out[0]), Tokens: c.MaxSeqLen}, nil
}
