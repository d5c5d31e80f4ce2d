# Bench::Latency
#		From the commit of an event to the commit in the other region's inbox, at a steady rate.
#
# Both ends by their own record of commit times, on one machine's clock; "seen" is when another
# session, looking every half millisecond, could first read it: it includes the destination's flush.
package Bench::Latency;

use strict;
use warnings;

use Bench::Topology;
use Bench::Util qw(one rows median payload say_progress);
use PgTide::Process;

my $RATE = 1000;

my $WATCHER = <<'END';
CREATE TABLE IF NOT EXISTS watched (upto bigint, at timestamptz);
TRUNCATE watched;
CREATE OR REPLACE PROCEDURE watch(seconds float) LANGUAGE plpgsql AS $$
DECLARE
	stop timestamptz := clock_timestamp() + seconds * interval '1 second';
	upto bigint[] := '{}';
	at timestamptz[] := '{}';
	last bigint := 0;
	newest bigint;
BEGIN
	WHILE clock_timestamp() < stop LOOP
		SELECT max(seq) INTO newest FROM tide.bench_inbox WHERE processed_at IS NULL AND dead_at IS NULL;
		IF newest > last THEN
			upto := upto || newest;
			at := at || clock_timestamp();
			last := newest;
		END IF;
		COMMIT;
		PERFORM pg_sleep(0.0005);
		COMMIT;
	END LOOP;
	INSERT INTO watched SELECT * FROM unnest(upto, at);
END $$;
END

# Milliseconds: the middle and the slow end, after a second of warming up.
my $QUANTILES = <<'END';
WITH e AS (SELECT seq, committed_at, received_at, pg_xact_commit_timestamp(xmin) AS stored_at FROM tide.bench_inbox
		   WHERE committed_at > '%s'::timestamptz + interval '1 second'),
	seen AS (SELECT e.*, (SELECT min(w.at) FROM watched w WHERE w.upto >= e.seq) AS seen_at FROM e),
	ms AS (SELECT extract(epoch FROM stored_at - committed_at) * 1000 AS stored, extract(epoch FROM received_at - committed_at) * 1000 AS received,
		extract(epoch FROM seen_at - committed_at) * 1000 AS seen FROM seen)
SELECT q, percentile_cont(q) WITHIN GROUP (ORDER BY stored), percentile_cont(q) WITHIN GROUP (ORDER BY received),
	percentile_cont(q) WITHIN GROUP (ORDER BY seen), count(*)
  FROM ms, unnest(ARRAY[0.5, 0.99]) q GROUP BY q ORDER BY q
END

sub publish
{
	my ($us, $seconds, $clients) = @_;
	my $file = "$ENV{TIDE_DATA}/latency.pgbench";
	open my $out, '>', $file or die "$file: $!";
	my $payload = payload();
	print $out "\\set k random(1, 1000)\nSELECT tide.outbox_publish('bench', 'orders', '$payload'::jsonb, '{}', :k ::text);\n";
	close $out;
	my $connstr = $us->connstr('postgres');
	my $output = qx{pgbench -n -M prepared -c $clients -j 1 -R $RATE -T $seconds -f '$file' "$connstr" 2>&1};
	return $output =~ /^tps = ([\d.]+)/m ? $1 : die "pgbench: $output";
}

sub run
{
	my ($way, $us, $eu, $seconds) = @_;
	my $topology = Bench::Topology->new($way, $us, $eu)->start;
	publish($us, 1, 1);    # all is connected and warm
	$topology->wait_for(one($us, 'SELECT count(*) FROM tide.bench_outbox'), 60);
	one($eu, $WATCHER);
	my $start = one($us, 'SELECT clock_timestamp()');
	my $watcher = PgTide::Process->new(
		name => 'watcher', log => "$ENV{TIDE_DATA}/watcher.log",
		command => [ 'psql', '-Xq', '-d', $eu->connstr('postgres'), '-c', "CALL watch($seconds + 3)" ])->start;
	my $tps = publish($us, $seconds, 4);
	$topology->wait_for(one($us, 'SELECT count(*) FROM tide.bench_outbox'), 60);
	$watcher->wait_end(60);
	my @quantiles = rows($eu, sprintf $QUANTILES, $start);
	my $peaks = $topology->relay_peaks;
	$topology->stop;
	my %result = (published_per_second => $tps, events => $quantiles[0][4], relay_peak_kib => $peaks);
	for my $q (@quantiles)
	{
		my $name = $q->[0] == 0.5 ? 'p50' : 'p99';
		@result{ "${name}_ms", "received_${name}_ms", "seen_${name}_ms" } = @$q[ 1 .. 3 ];
	}
	say_progress(sprintf '  %s: p50 %.2f ms, p99 %.2f ms (seen: %.2f, %.2f)', $way, @result{qw(p50_ms p99_ms seen_p50_ms seen_p99_ms)});
	return \%result;
}

sub measure
{
	my ($us, $eu, $quick) = @_;
	my ($rounds, $seconds) = $quick ? (1, 2) : (3, 12);
	my %runs;
	for my $round (1 .. $rounds)
	{
		for my $way (qw(direct nats))
		{
			say_progress("latency: $way, round $round");
			push @{ $runs{$way} }, run($way, $us, $eu, $seconds);
		}
	}
	my @results;
	for my $way (qw(direct nats))
	{
		my @runs = @{ $runs{$way} };
		my %m = map { my $key = $_; $key => median(map { $_->{$key} } @runs) }
		  map { ("${_}p50_ms", "${_}p99_ms") } '', 'received_', 'seen_';
		push @results, {way => $way, rate => $RATE, %m, rounds => \@runs};
	}
	return \@results;
}

1;
