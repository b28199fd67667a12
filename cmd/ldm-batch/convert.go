package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/ldm-batch/ldm-batch/jobs/convert"
)

func convertCommand(k *console) *cli.Command {
	return &cli.Command{
		Name:      "convert",
		Usage:     "write a checkpoint as safetensors, or as a checkpoint of PyTorch",
		ArgsUsage: "IN OUT",
		Flags: slices.Concat([]cli.Flag{
			&cli.BoolFlag{Name: "ema", Usage: "take the moving average in place of the raw weights"},
			&cli.StringFlag{Name: "dtype", Usage: "store weights as `TYPE`: f64, f32, f16 or bf16 (default: as they are)"},
			&cli.BoolFlag{Name: "first-stage-only", Usage: "take only the autoencoder of a latent diffusion model"},
			&cli.BoolFlag{Name: "no-first-stage", Usage: "leave out the autoencoder of a latent diffusion model, to be kept once for several models"},
			&cli.BoolFlag{Name: "inference", Usage: "leave out what training alone reads: losses with their discriminator, and the moving average or the weights that it replaces"},
			&cli.StringFlag{Name: "to", Usage: "write `FORMAT`: safetensors or ckpt (default: by the name of the output)"},
			&cli.BoolFlag{Name: "overwrite", Usage: "replace an existing file"},
		}, outputFlags()),
		Action: k.action(func(ctx context.Context, c *cli.Context) error {
			args, err := arguments(c, "IN", "OUT")
			if err != nil {
				return err
			}
			r, err := convert.Convert(ctx, args[0], args[1], convert.Options{
				EMA: c.Bool("ema"), DType: c.String("dtype"), FirstStageOnly: c.Bool("first-stage-only"),
				NoFirstStage: c.Bool("no-first-stage"), InferenceOnly: c.Bool("inference"), To: c.String("to"), Overwrite: c.Bool("overwrite"),
			})
			if err != nil {
				return err
			}
			k.report.doc = r
			k.report.text = fmt.Sprintf("%s: %d tensors, %d bytes, sha256 %s\n", args[1], r.Tensors, r.Bytes, r.SHA256)
			return nil
		}),
	}
}
