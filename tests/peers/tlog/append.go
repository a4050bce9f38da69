package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
)

// appendRate lets so many writers add entries of so many bytes to a new Tessera log in the folder, each when its last
// one was integrated, and prints entries a second and the 99th percentile of their latencies in microseconds. Entries
// differ from one another: Tessera is free to give equal ones the same place.
func appendRate(folder string, writers, size int, length time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), length+60*time.Second)
	defer cancel()
	key, _ := must2(note.GenerateKey(rand.Reader, "example.org/bench"))
	driver := must(posix.New(ctx, posix.Config{Path: folder}))
	options := tessera.NewAppendOptions().
		WithCheckpointSigner(must(note.NewSigner(key))).
		WithCheckpointInterval(time.Second).
		WithBatching(uint(writers), 2*time.Millisecond)
	appender, shutdown, _, err := tessera.NewAppender(ctx, driver, options)
	if err != nil {
		panic(err)
	}
	var lock sync.Mutex
	var latencies []time.Duration
	var group sync.WaitGroup
	begun := time.Now()
	for writer := range writers {
		group.Add(1)
		go func() {
			defer group.Done()
			var mine []time.Duration
			for n := uint64(0); time.Since(begun) < length; n++ {
				entry := bytes.Repeat([]byte("x"), size)
				binary.BigEndian.PutUint64(entry, uint64(writer)<<40|n)
				start := time.Now()
				must(appender.Add(ctx, tessera.NewEntry(entry))())
				mine = append(mine, time.Since(start))
			}
			lock.Lock()
			latencies = append(latencies, mine...)
			lock.Unlock()
		}()
	}
	group.Wait()
	elapsed := time.Since(begun)
	if err := shutdown(ctx); err != nil {
		panic(err)
	}
	slices.Sort(latencies)
	p99 := latencies[(len(latencies)-1)*99/100]
	fmt.Printf("%.1f %.1f\n", float64(len(latencies))/elapsed.Seconds(), float64(p99.Microseconds()))
}
