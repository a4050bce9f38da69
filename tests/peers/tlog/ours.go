// Other people's programs against a ledger of ours, as it is served:
//
//	tlog witness ADDRESS VKEY     cosigns the log of this key at ADDRESS; prints its own keys of ML-DSA-44 and Ed25519
//	tlog fsck URL VKEY            reads every tile and entry of the log at URL; says of how many entries
package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/url"
	"os"

	fnote "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"github.com/transparency-dev/witness/persistence/inmemory"
	"github.com/transparency-dev/witness/witness"
	"golang.org/x/mod/sumdb/note"
)

func serveWitness(address, log string) {
	verifier := must(note.NewVerifier(log))
	pqKey, pq := must2(fnote.GenerateMLDSAKey("go.example/pq"))
	edKey, ed := must2(note.GenerateKey(rand.Reader, "go.example/ed"))
	signers := []note.Signer{must(fnote.NewMLDSASigner(pqKey)), must(fnote.NewSignerForCosignatureV1(edKey))}
	w := must(witness.New(context.Background(), witness.Opts{
		Persistence: inmemory.New(),
		Signers:     signers,
		VerifierForLog: func(_ context.Context, origin string) (note.Verifier, bool, error) {
			return verifier, origin == verifier.Name(), nil
		},
	}))
	fmt.Println(pq)
	fmt.Println(must(fnote.VKeyToCosignatureV1(ed)))
	handler := witness.NewHTTPHandler(w)
	http.HandleFunc("POST /add-checkpoint", handler.AddCheckpoint)
	fmt.Fprintln(os.Stderr, http.ListenAndServe(address, nil))
	os.Exit(1)
}

func readAll(at, key string) {
	ctx := context.Background()
	verifier := must(fnote.NewVerifier(key))
	source := must(client.NewHTTPFetcher(must(url.Parse(at)), nil))
	entries := 0
	hashes := func(bundle []byte) ([][]byte, error) {
		parsed := &api.EntryBundle{}
		if err := parsed.UnmarshalText(bundle); err != nil {
			return nil, err
		}
		var hashes [][]byte
		for _, entry := range parsed.Entries {
			hashes = append(hashes, rfc6962.DefaultHasher.HashLeaf(entry))
		}
		entries += len(hashes)
		return hashes, nil
	}
	if err := fsck.New(verifier.Name(), verifier, source, hashes, fsck.Opts{N: 1}).Check(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "not whole:", err)
		os.Exit(1)
	}
	fmt.Printf("whole: %d entries\n", entries)
}
