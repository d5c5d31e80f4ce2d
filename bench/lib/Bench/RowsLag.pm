# Bench::RowsLag
#		From the commit of a row to when a session in the other region can read it, at a steady rate.
#
# The commit by the source's own record, on one machine's clock; the other end by a session that looks
# every half millisecond, because native replication gives rows the commit time they had at the source.
package Bench::RowsLag;

use strict;
use warnings;

use Bench::Rows;
use Bench::Util qw(one rows median say_progress);
use PgTide::Process;
use PgTide::Test qw(wait_until);

my $RATE = 1000;

my $WATCHER = <<'END';
CREATE TABLE IF NOT EXISTS watched (upto bigint, at timestamptz);
CREATE TABLE IF NOT EXISTS committed (id bigint, at timestamptz);
TRUNCATE watched, committed;
CREATE OR REPLACE PROCEDURE watch(seconds float) LANGUAGE plpgsql AS $$
DECLARE
	stop timestamptz := clock_timestamp() + seconds * interval '1 second';
	upto bigint[] := '{}';
	at timestamptz[] := '{}';
	last bigint := 0;
	newest bigint;
BEGIN
	WHILE clock_timestamp() < stop LOOP
		SELECT max(id) INTO newest FROM item;
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

# Milliseconds, after a second of warming up.
my $QUANTILES = <<'END';
WITH seen AS (SELECT c.id, c.at, (SELECT min(w.at) FROM watched w WHERE w.upto >= c.id) AS seen_at FROM committed c
			  WHERE c.at > (SELECT min(at) FROM committed) + interval '1 second')
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY ms), percentile_cont(0.99) WITHIN GROUP (ORDER BY ms), count(*)
  FROM (SELECT extract(epoch FROM seen_at - at) * 1000 AS ms FROM seen WHERE seen_at IS NOT NULL) q
END

# One client, so that ids are in order of commits.
sub insert_steadily
{
	my ($pair, $db, $seconds, $rate) = @_;
	my $file = "$ENV{TIDE_DATA}/rows-lag.pgbench";
	open my $out, '>', $file or die "$file: $!";
	print $out "INSERT INTO item (n, body, at) VALUES (1, 'kalo benti sura mane tole kira data seno pelu fati gora line rota', now());\n";
	close $out;
	my $output = $pair->pgbench('us', $db, '-n', '-M', 'prepared', '-c', 1, '-R', $rate // $RATE, '-T', $seconds, '-f', "'$file'");
	return $output =~ /^tps = ([\d.]+)/m ? $1 : die "pgbench: $output";
}

sub run
{
	my ($pair, $way, $seconds) = @_;
	my $db = $way->db;
	$pair->clear($db, 'item');
	$way->open;
	$way->release;
	insert_steadily($pair, $db, 1);    # all is connected and warm
	$pair->mark($db);
	$pair->await($db, 60);
	one($pair->{us}, 'DELETE FROM item', $db);
	$pair->mark($db);
	$pair->await($db, 60);
	my $result = measure_lag($pair, $db, $seconds);
	$pair->compare($db, 'item');
	$way->close;
	say_progress(sprintf '  %s: p50 %.2f ms, p99 %.2f ms of %d rows at %.0f/s', $way->name, @$result{qw(p50_ms p99_ms rows tps)});
	return $result;
}

# The lag of rows that are inserted at that rate, on an empty table and a link at rest; begin is called when all is ready.
sub measure_lag
{
	my ($pair, $db, $seconds, $rate, $begin) = @_;
	one($pair->{eu}, $WATCHER, $db);
	my $watcher = PgTide::Process->new(
		name => 'watcher', log => "$ENV{TIDE_DATA}/watcher.log",
		command => [ 'psql', '-Xq', '-d', $pair->{eu}->connstr($db), '-c', "CALL watch($seconds + 2)" ])->start;
	$begin->() if $begin;
	my $tps = insert_steadily($pair, $db, $seconds, $rate);
	$pair->mark($db);
	$pair->await($db, 300);
	$watcher->wait_end(60);
	my ($us, $eu) = map { $pair->{$_}->connstr($db) } qw(us eu);
	system('sh', '-c', qq{psql -Xq -d "$us" -c 'COPY (SELECT id, pg_xact_commit_timestamp(xmin) FROM item) TO STDOUT' | psql -Xq -d "$eu" -c 'COPY committed FROM STDIN'}) == 0
	  or die 'the commit times did not come';
	my ($p50, $p99, $count) = @{ (rows($pair->{eu}, $QUANTILES, $db))[0] };
	return {p50_ms => $p50, p99_ms => $p99, rows => $count, tps => $tps};
}

sub measure
{
	my ($pair, $quick) = @_;
	my @ways = Bench::Rows::ways($pair);
	my %runs;
	$_->setup(['marker'], ['item']) for @ways;
	for my $round (1 .. ($quick ? 1 : 5))
	{
		say_progress("rows-lag: round $round");
		push @{ $runs{ $_->name } }, run($pair, $_, $quick ? 2 : 12) for @ways;
	}
	$_->teardown for @ways;
	return {
		rate => $RATE, rounds => \%runs,
		ways => { map { my $runs = $runs{$_}; $_ => { map { my $key = $_; $key => median(map { $_->{$key} } @$runs) } qw(p50_ms p99_ms) } } keys %runs } };
}

1;
