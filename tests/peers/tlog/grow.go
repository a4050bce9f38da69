package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	fnote "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
)

// makeKey makes the key of a log in a folder, and prints its verifier key.
func makeKey(folder, origin string) {
	private, public := must2(note.GenerateKey(rand.Reader, origin))
	if err := os.WriteFile(filepath.Join(folder, "log.key"), []byte(private), 0o600); err != nil {
		panic(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "log.pub"), []byte(public), 0o644); err != nil {
		panic(err)
	}
	fmt.Println(public)
}

// grow adds entries to a Tessera log of that name in the folder, which has its checkpoints cosigned by the witness
// before it publishes them, and prints what it has published once both signatures verify. It publishes nothing that
// the witness refuses: then it says why and exits with 1. With `-` for the witness it asks none.
func grow(folder, name, witness, vkey, text string, entries int) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	signer := must(note.NewSigner(string(must(os.ReadFile(filepath.Join(folder, "log.key"))))))
	log := must(note.NewVerifier(string(must(os.ReadFile(filepath.Join(folder, "log.pub"))))))
	cosigner := must(fnote.NewVerifierForCosignatureV1(vkey))
	path := filepath.Join(folder, name)
	options := tessera.NewAppendOptions().
		WithCheckpointSigner(signer).
		WithCheckpointInterval(200*time.Millisecond).
		WithBatching(16, 50*time.Millisecond)
	if witness != "-" {
		group := tessera.NewWitnessGroup(1, must(tessera.NewWitness(vkey, must(url.Parse(witness)))))
		options = options.WithWitnesses(group, &tessera.WitnessOptions{Timeout: 3 * time.Second})
	}
	driver := must(posix.New(ctx, posix.Config{Path: path}))
	unpublished := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "not published:", err)
			os.Exit(1)
		}
	}
	appender, shutdown, reader, err := tessera.NewAppender(ctx, driver, options)
	unpublished(err)
	await := tessera.NewPublicationAwaiter(ctx, reader.ReadCheckpoint, 50*time.Millisecond)
	for n := range entries {
		future := appender.Add(ctx, tessera.NewEntry(fmt.Appendf(nil, "%s %d", text, n)))
		waiting, stop := context.WithTimeout(ctx, 8*time.Second)
		_, _, err := await.Await(waiting, future)
		stop()
		unpublished(err)
	}
	unpublished(shutdown(ctx))
	published := must(os.ReadFile(filepath.Join(path, "checkpoint")))
	if witness == "-" {
		fmt.Printf("asked nobody\n%s", published)
		return
	}
	opened := must(note.Open(bytes.Clone(published), note.VerifierList(log, cosigner)))
	for _, signature := range opened.Sigs {
		if signature.Name == cosigner.Name() && signature.Hash == cosigner.KeyHash() {
			at := must(fnote.CoSigV1Timestamp(signature))
			fmt.Printf("cosigned at %d by %s\n%s", at.Unix(), signature.Name, published)
			return
		}
	}
	panic("the published checkpoint has no cosignature that verifies")
}

// cosigned checks with other people's code that a note is signed by the log and by every one of the witness's keys.
func cosigned(file, log string, vkeys []string) {
	verifiers := []note.Verifier{must(note.NewVerifier(log))}
	for _, vkey := range vkeys {
		verifiers = append(verifiers, must(fnote.NewVerifierForCosignatureV1(vkey)))
	}
	opened := must(note.Open(must(os.ReadFile(file)), note.VerifierList(verifiers...)))
	if len(opened.Sigs) != len(verifiers) || len(opened.UnverifiedSigs) != 0 {
		panic(fmt.Sprintf("%d signatures verify, %d do not", len(opened.Sigs), len(opened.UnverifiedSigs)))
	}
	fmt.Printf("%d signatures verify\n%s", len(opened.Sigs), opened.Text)
}
