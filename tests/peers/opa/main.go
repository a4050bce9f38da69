// Measures Open Policy Agent on the requests of `decide_bench`: POLICY is a Rego module that says `data.bench.allow`,
// REQUESTS a JSON list of inputs. Prints one JSON object: microseconds at the median and at 99 %, and what was allowed.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
)

type measured struct {
	Median  float64 `json:"p50_us"`
	Tail    float64 `json:"p99_us"`
	Allowed []bool  `json:"allowed"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) != 2 {
		return fmt.Errorf("usage: opa POLICY REQUESTS")
	}
	policy, err := os.ReadFile(arguments[0])
	if err != nil {
		return err
	}
	text, err := os.ReadFile(arguments[1])
	if err != nil {
		return err
	}
	var requests []any
	if err := json.Unmarshal(text, &requests); err != nil {
		return err
	}
	inputs := make([]ast.Value, len(requests))
	for place, request := range requests {
		if inputs[place], err = ast.InterfaceToValue(request); err != nil {
			return err
		}
	}
	ctx := context.Background()
	query, err := rego.New(
		rego.Query("data.bench.allow"),
		rego.Module("bench.rego", string(policy)),
	).PrepareForEval(ctx)
	if err != nil {
		return err
	}
	result := measured{Allowed: make([]bool, len(inputs))}
	times := make([]float64, len(inputs))
	// The first round warms up.
	for range 2 {
		for place, input := range inputs {
			began := time.Now()
			found, err := query.Eval(ctx, rego.EvalParsedInput(input))
			times[place] = float64(time.Since(began).Nanoseconds()) / 1e3
			if err != nil {
				return err
			}
			result.Allowed[place] = found.Allowed()
		}
	}
	sort.Float64s(times)
	last := len(times) - 1
	result.Median, result.Tail = times[last/2], times[last*99/100]
	return json.NewEncoder(os.Stdout).Encode(result)
}
