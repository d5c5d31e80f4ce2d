# Bench::Pipeline
#		Events per second from a full outbox to the other region's inbox, against what the inbox can take.
#
# The rate is counted by the destination's commit times, from the first batch to the last.
package Bench::Pipeline;

use strict;
use warnings;

use Bench::Topology;
use Bench::Util qw(one rows median fill_outbox say_progress);

my $BATCH = 1000;    # the pipelines' default

# Events of all transactions but the first, by the time they took.
my $RATE = <<'END';
WITH t AS (SELECT pg_xact_commit_timestamp(xmin) AS at FROM tide.bench_inbox)
SELECT count(*) FILTER (WHERE at > first) / nullif(extract(epoch FROM max(at) - min(at)), 0), count(*)
  FROM t, (SELECT min(at) AS first FROM t) f
END

sub limits
{
	my ($us, $eu) = @_;
	one($eu, "SELECT tide.inbox_create('bench-limit')");
	my $program = "$ENV{TIDE_TOP}/build/bench/inbox_limit";
	my ($source, $dest) = map { $_->connstr('postgres') } $us, $eu;
	my $output = qx{'$program' "$source" "$dest" bench_outbox bench-limit $BATCH};
	die 'inbox_limit failed' if $?;
	one($eu, "SELECT tide.inbox_drop('bench-limit')");
	return split ' ', $output;
}

# One run of one way: limits first, on the very events that then go through the pipeline.
sub run
{
	my ($way, $us, $eu, $events) = @_;
	my $topology = Bench::Topology->new($way, $us, $eu);
	fill_outbox($us, 'bench', $events);
	my ($receive, $plain) = limits($us, $eu);
	one($eu, 'CHECKPOINT');
	$topology->start;
	$topology->wait_for($events, 300);
	my $peaks = $topology->relay_peaks;
	my ($rate, $count) = @{ (rows($eu, $RATE))[0] };
	die "$count events arrived, $events were published" unless $count == $events;
	$topology->stop;
	say_progress(sprintf '  %s: %.0f/s; inbox alone %.0f/s, plain insert %.0f/s', $way, $rate, $receive, $plain);
	return {rate => $rate, receive => $receive, plain => $plain, peaks => $peaks};
}

sub measure
{
	my ($us, $eu, $quick) = @_;
	my ($rounds, $events) = $quick ? (1, 10_000) : (3, 300_000);
	my %runs;
	for my $round (1 .. $rounds)
	{
		for my $way (qw(direct nats))
		{
			say_progress("pipeline: $way, round $round");
			push @{ $runs{$way} }, run($way, $us, $eu, $events);
		}
	}
	my @results;
	for my $way (qw(direct nats))
	{
		my @runs = @{ $runs{$way} };
		my %m = map { my $key = $_; $key => median(map { $_->{$key} } @runs) } qw(rate receive plain);
		my %peak;
		for my $run (@runs)
		{
			for my $side (keys %{ $run->{peaks} })
			{
				$peak{$side} = $run->{peaks}{$side} if ($peak{$side} // 0) < $run->{peaks}{$side};
			}
		}
		push @results, {
			way => $way, events => $events, batch => $BATCH, events_per_second => $m{rate},
			inbox_alone => $m{receive}, plain_insert => $m{plain},
			share_of_inbox => median(map { $_->{rate} / $_->{receive} } @runs),
			share_of_insert => median(map { $_->{rate} / $_->{plain} } @runs),
			relay_peak_kib => \%peak, rounds => \@runs };
	}
	return \@results;
}

1;
