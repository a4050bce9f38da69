// Other people's implementations of the C2SP tlog specifications, asked two things:
//
//	go run . make                     prints docs/vectors/ledger/peers.json: their checkpoints, cosignatures and answers
//	go run . check FOLDER             checks the cosignatures and policies of docs/vectors/ledger that we made
//
// and more: by crates/ledger-store/examples/append_bench how fast a log of theirs is (append.go), and, by tests of
// crates/trilith, to be a log that our witness cosigns (grow.go, cosigning.rs), a witness that cosigns our ledger, and a
// client that reads all of it (ours.go, quorum.rs).
//
// They are transparency-dev/witness and transparency-dev/formats (ML-DSA-44 and Ed25519), filippo.io/torchwood
// (Ed25519), transparency-dev/tessera (policies) and golang.org/x/mod/sumdb (notes and trees).
package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"filippo.io/torchwood"
	fnote "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/witness/persistence/inmemory"
	"github.com/transparency-dev/witness/witness"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

type leaves struct{ hashes []tlog.Hash }

func (l *leaves) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var found []tlog.Hash
	for _, index := range indexes {
		found = append(found, l.hashes[index])
	}
	return found, nil
}

func (l *leaves) append(n int64, text string) {
	l.hashes = append(l.hashes, must(tlog.StoredHashes(n, []byte(text), l))...)
}

func tree(size int64, name string) *leaves {
	l := &leaves{}
	for n := range size {
		l.append(n, fmt.Sprintf("%s %d", name, n))
	}
	return l
}

func checkpoint(origin string, size int64, l *leaves, extensions string) string {
	root := must(tlog.TreeHash(size, l))
	return fmt.Sprintf("%s\n%d\n%s\n%s", origin, size, base64.StdEncoding.EncodeToString(root[:]), extensions)
}

func signed(text string, signers ...note.Signer) string {
	return string(must(note.Sign(&note.Note{Text: text}, signers...)))
}

func request(old int64, proof tlog.TreeProof, cp string) string {
	body := fmt.Sprintf("old %d\n", old)
	for _, hash := range proof {
		body += base64.StdEncoding.EncodeToString(hash[:]) + "\n"
	}
	return body + "\n" + cp
}

func makeVectors() {
	const origin = "go.example/log"
	logKey, logVerifier := must2(note.GenerateKey(rand.Reader, origin))
	logSigner := must(note.NewSigner(logKey))
	verifier := must(note.NewVerifier(logVerifier))

	pqKey, pqVerifier := must2(fnote.GenerateMLDSAKey("witness.example/pq"))
	pq := must(fnote.NewMLDSASigner(pqKey))
	edKey, edPublic := must2(note.GenerateKey(rand.Reader, "witness.example/ed"))
	ed := must(fnote.NewSignerForCosignatureV1(edKey))
	edVerifier := must(fnote.VKeyToCosignatureV1(edPublic))
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	wood := must(torchwood.NewCosignatureSigner("witness.example/torchwood", private))

	w := must(witness.New(context.Background(), witness.Opts{
		Persistence: inmemory.New(),
		Signers:     []note.Signer{pq, ed},
		VerifierForLog: func(_ context.Context, asked string) (note.Verifier, bool, error) {
			return verifier, asked == origin, nil
		},
	}))
	handler := witness.NewHTTPHandler(w)
	type exchange struct {
		Name    string `json:"name"`
		Request string `json:"request"`
		Status  int    `json:"status"`
		Type    string `json:"content_type"`
		Answer  string `json:"answer"`
	}
	var exchanges []exchange
	ask := func(name, body string) exchange {
		recorder := httptest.NewRecorder()
		asked := httptest.NewRequest(http.MethodPost, "/add-checkpoint", strings.NewReader(body))
		handler.AddCheckpoint(recorder, asked)
		answer := exchange{name, body, recorder.Code, recorder.Header().Get("Content-Type"), recorder.Body.String()}
		exchanges = append(exchanges, answer)
		return answer
	}
	log, other := tree(20, "leaf"), tree(20, "fork")
	at := func(size int64, l *leaves) string { return signed(checkpoint(origin, size, l, ""), logSigner) }
	prove := func(to, from int64) tlog.TreeProof { return must(tlog.ProveTree(to, from, log)) }
	ask("first", request(0, nil, at(7, log)))
	ask("a size that the witness does not have", request(0, nil, at(13, log)))
	last := ask("grown", request(7, prove(13, 7), at(13, log)))
	ask("the same again", request(13, nil, at(13, log)))
	ask("a fork", request(13, prove(20, 13), at(20, other)))
	ask("another root of the same size", request(13, nil, at(13, other)))
	ask("an old size above the checkpoint's", request(13, nil, at(7, log)))
	unknown := signed(checkpoint("go.example/unknown", 7, log, ""), logSigner)
	ask("an unknown origin", request(0, nil, unknown))
	strangerKey, _ := must2(note.GenerateKey(rand.Reader, origin))
	stranger := must(note.NewSigner(strangerKey))
	ask("signed by nobody who is known", request(13, nil, signed(checkpoint(origin, 13, log, ""), stranger)))

	// A log whose origin is no key name, with an extension line.
	spaced := signed(checkpoint("go example log", 5, log, "extension 1\n"), logSigner, pq, ed, wood)
	// A log that signs by ML-DSA-44, as tlog-checkpoint recommends.
	mlLogKey, mlLogVerifier := must2(fnote.GenerateMLDSAKey("go.example/pq-log"))
	mlLog := must(fnote.NewMLDSASigner(mlLogKey))
	mlCheckpoint := signed(checkpoint("go.example/pq-log", 20, log, ""), mlLog, ed, wood)

	// The witness's answer, merged by the note library.
	whole := at(13, log) + last.Answer
	opened := must(note.Open([]byte(whole), note.VerifierList(verifier, pq.Verifier(), ed.Verifier())))
	if len(opened.Sigs) != 3 {
		panic("the note library does not verify all three")
	}
	inclusion := must(tlog.ProveRecord(13, 6, log))
	proof := "c2sp.org/tlog-proof@v1\nindex 6\n"
	for _, hash := range inclusion {
		proof += base64.StdEncoding.EncodeToString(hash[:]) + "\n"
	}
	proof += "\n" + whole

	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(map[string]any{
		"made_by": "tests/peers/tlog: go run . make",
		"log":     map[string]string{"key": logVerifier, "origin": origin, "leaves": "the ASCII texts `leaf 0`, `leaf 1`, ..."},
		"pq_log":  map[string]string{"key": mlLogVerifier, "origin": "go.example/pq-log"},
		"witnesses": map[string]string{
			"witness_ml_dsa_44": pqVerifier, "witness_ed25519": edVerifier, "torchwood_ed25519": wood.Verifier().String(),
		},
		"exchanges":            exchanges,
		"cosigned":             whole,
		"foreign_checkpoint":   spaced,
		"ml_dsa_44_checkpoint": mlCheckpoint,
		"tlog_proof":           map[string]string{"record": "leaf 6", "proof": proof},
	}); err != nil {
		panic(err)
	}
}

func must2[T, U any](one T, two U, err error) (T, U) {
	if err != nil {
		panic(err)
	}
	return one, two
}

// read takes a vector file of ours.
func read(folder, name string, into any) {
	content := must(os.ReadFile(filepath.Join(folder, name)))
	if err := json.Unmarshal(content, into); err != nil {
		panic(err)
	}
}

func check(folder string) {
	var cosignatures struct {
		LogKey string `json:"log_key"`
		Valid  []struct{ Name, Key, Note string }
		Bad    []struct{ Name, Key, Note string } `json:"refused"`
	}
	read(folder, "cosignatures.json", &cosignatures)
	verifies := func(key, cosigned string) error {
		log := must(note.NewVerifier(cosignatures.LogKey))
		witness, err := fnote.NewVerifierForCosignatureV1(key)
		if err != nil {
			return err
		}
		opened, err := note.Open([]byte(cosigned), note.VerifierList(log, witness))
		if err != nil {
			return err
		}
		for _, signature := range opened.Sigs {
			if signature.Name == witness.Name() && signature.Hash == witness.KeyHash() {
				_, err := fnote.CoSigV1Timestamp(signature)
				return err
			}
		}
		return fmt.Errorf("no line of %s", witness.Name())
	}
	for _, vector := range cosignatures.Valid {
		if err := verifies(vector.Key, vector.Note); err != nil {
			panic(fmt.Sprintf("%s: %v", vector.Name, err))
		}
	}
	for _, vector := range cosignatures.Bad {
		if verifies(vector.Key, vector.Note) == nil {
			panic(vector.Name + ": a peer takes it")
		}
	}
	fmt.Printf("cosignatures: %d verify, %d are refused\n", len(cosignatures.Valid), len(cosignatures.Bad))

	var policies struct {
		Judged []struct {
			Name, Policy string
			Notes        []struct {
				Note    string
				Reached bool
			}
		}
	}
	read(folder, "policies.json", &policies)
	judged := 0
	for _, vector := range policies.Judged {
		group := must(tessera.NewWitnessGroupFromPolicy([]byte(vector.Policy)))
		for _, given := range vector.Notes {
			if got := group.Satisfied(bytes.Clone([]byte(given.Note))); got != given.Reached {
				panic(fmt.Sprintf("%s: tessera says %v", vector.Name, got))
			}
			judged++
		}
	}
	fmt.Printf("policies: %d judged alike\n", judged)
}

func main() {
	switch {
	case len(os.Args) == 2 && os.Args[1] == "make":
		makeVectors()
	case len(os.Args) == 3 && os.Args[1] == "check":
		check(os.Args[2])
	case len(os.Args) == 4 && os.Args[1] == "key":
		makeKey(os.Args[2], os.Args[3])
	case len(os.Args) == 8 && os.Args[1] == "grow":
		grow(os.Args[2], os.Args[3], os.Args[4], os.Args[5], os.Args[6], must(strconv.Atoi(os.Args[7])))
	case len(os.Args) == 6 && os.Args[1] == "append":
		number := func(at int) int { return must(strconv.Atoi(os.Args[at])) }
		appendRate(os.Args[2], number(3), number(4), time.Duration(number(5))*time.Millisecond)
	case len(os.Args) >= 5 && os.Args[1] == "cosigned":
		cosigned(os.Args[2], os.Args[3], os.Args[4:])
	case len(os.Args) == 4 && os.Args[1] == "witness":
		serveWitness(os.Args[2], os.Args[3])
	case len(os.Args) == 4 && os.Args[1] == "fsck":
		readAll(os.Args[2], os.Args[3])
	default:
		fmt.Fprintln(os.Stderr, "usage: tlog make | tlog check FOLDER | tlog key FOLDER ORIGIN |\n"+
			"  tlog grow FOLDER NAME WITNESS-URL WITNESS-KEY TEXT ENTRIES | tlog cosigned FILE LOG-KEY WITNESS-KEY... |\n"+
			"  tlog append FOLDER WRITERS BYTES MILLISECONDS | tlog witness ADDRESS LOG-KEY | tlog fsck URL LOG-KEY")
		os.Exit(2)
	}
}
