# Bench::RowsReport
#		Results about rows as lines of the table, and what has to be said about them.
package Bench::RowsReport;

use strict;
use warnings;

# What is aimed at: at least this for a link's share of native's speed (direct), and so on.
my %AIM = (one_row => 1.4, bulk => 1.2, tpcb => 1.0, copy => 0.9, cost => 0.03, sync => 1, flooded => 2, fewer => 4, far => 0.9, relay_kib => 32 * 1024);
my %WHAT = (one_row => 'one-row transactions', bulk => '1000-row transactions', tpcb => "pgbench's TPC-B transactions");

# [what, figure, aim, met]; without the last two where nothing is aimed at.
sub aimed
{
	my ($what, $figure, $aim, $met) = @_;
	return [ $what, $figure, $aim, $met ? 1 : 0 ];
}

sub peak
{
	my ($what, $peaks) = @_;
	my ($max) = sort { $b <=> $a } values %$peaks;
	return () unless $max;
	return aimed("  a relay's highest memory, $what", sprintf('%.1f MiB', $max / 1024), '< 32 MiB', $max < $AIM{relay_kib});
}

sub backlog_rows
{
	my ($r) = @_;
	my $aim = $AIM{ $r->{load} };
	my @rows = ([ "rows, backlog of $r->{transactions} $WHAT{ $r->{load} }, native", sprintf '%.0f/s; %.1f us of processor time each', $r->{per_second}{native}, $r->{cpu_us}{native} ]);
	for my $way (grep { defined $r->{ratio}{$_} } qw(direct nats))
	{
		my $figure = sprintf '%.0f/s; %.2f times native; %.1f us', $r->{per_second}{$way}, $r->{ratio}{$way}, $r->{cpu_us}{$way};
		push @rows, $way eq 'direct' ? aimed("  pg_tide, $way", $figure, ">= $aim", $r->{ratio}{$way} >= $aim) : [ "  pg_tide, $way", $figure ];
	}
	return (@rows, peak('this backlog', $r->{relay_peak_kib}));
}

sub copy_rows
{
	my ($r) = @_;
	my @rows = ([ "first copy of $r->{rows} rows, a pipe of binary COPY", sprintf '%.0f rows/s', $r->{per_second}{pipe} ]);
	for my $way (grep { defined $r->{share_of_pipe}{$_} } qw(native direct))
	{
		my $figure = sprintf '%.0f rows/s; %.2f of the pipe', $r->{per_second}{$way}, $r->{share_of_pipe}{$way};
		push @rows, $way eq 'direct' ? aimed('  pg_tide', $figure, ">= $AIM{copy}", $r->{share_of_pipe}{$way} >= $AIM{copy}) : [ "  $way", $figure ];
	}
	return (@rows, peak('first copy', $r->{relay_peak_kib}));
}

sub lag_rows
{
	my ($r) = @_;
	return map {
		[ ($_ eq 'native' ? "row seen after its commit, $r->{rate}/s, native" : "  pg_tide, $_"), sprintf 'p50 %.2f ms, p99 %.2f ms', @{ $r->{ways}{$_} }{qw(p50_ms p99_ms)} ]
	} grep { $r->{ways}{$_} } qw(native direct nats);
}

sub wire_rows
{
	my ($r) = @_;
	my @rows = ([ "bytes between regions, $WHAT{ $r->{load} }, native", sprintf '%.1f a change', $r->{bytes_a_change}{native} ]);
	for my $way (grep { defined $r->{fewer}{$_} } qw(direct nats))
	{
		my $figure = sprintf '%.1f a change; %.2f times fewer', $r->{bytes_a_change}{$way}, $r->{fewer}{$way};
		push @rows, $way eq 'nats' ? aimed('  pg_tide, nats, compressed', $figure, ">= $AIM{fewer}", $r->{fewer}{$way} >= $AIM{fewer}) : [ "  pg_tide, $way", $figure ];
	}
	return @rows;
}

sub stamp_rows
{
	my ($r) = @_;
	return (
		[ "TPC-B, $r->{clients} clients, synchronous_commit $r->{synchronous_commit}", sprintf '%.0f/s', $r->{tps}{plain} ],
		aimed('  with its tables added (stamps)', sprintf('%.0f/s; costs %.1f %%, %.1f %% more processor time', $r->{tps}{stamped}, $r->{cost} * 100, $r->{cpu_cost} * 100), '<= 3 %', $r->{cost} <= $AIM{cost}));
}

sub scope_rows
{
	my ($r) = @_;
	return ([ "TPC-B, scope global, $r->{clients} clients, synchronous_commit $r->{synchronous_commit}", sprintf '%.0f/s', $r->{tps}{global} ],
		map { aimed({ home => '  scope home', primary => '  scope primary', rows => '  residency, a row filter', columns => '  residency, a column list' }->{$_}, sprintf('%.0f/s; costs %.1f %%, %.1f %% more processor time', $r->{tps}{$_}, $r->{cost}{$_} * 100, $r->{cpu_cost}{$_} * 100),
			'<= 3 %', $r->{cost}{$_} <= $AIM{cost}) } qw(home primary rows columns));
}

sub filter_rows
{
	my ($r) = @_;
	return ([ 'reading the WAL of TPC-B for another region, nothing filtered', sprintf '%.2f us a change', $r->{us}{global} ],
		map { [ { rows => '  a row filter that all rows pass', columns => '  a column list' }->{$_}, sprintf '%.2f us a change; %.2f times', $r->{us}{$_}, $r->{times}{$_} ] } qw(rows columns));
}

# No slower than native: to a hundredth, as two runs of native itself differ by thousandths.
sub sync_rows
{
	my ($r) = @_;
	my $case = "$r->{clients} client" . ($r->{clients} > 1 ? 's' : '');
	my @rows = map { [ ($_ eq 'logical' ? "commit that waits for a region $r->{round_trip_ms} ms away and back, $case, native logical" : '  native physical'),
			sprintf 'p50 %.2f ms, p99 %.2f ms; %.1f/s', @{ $r->{ways}{$_} }{qw(p50_ms p99_ms tps)} ] } qw(logical physical);
	return (@rows, aimed('  pg_tide, class with durability sync',
		sprintf('p50 %.2f ms, p99 %.2f ms; %.1f/s; p50 %.2f times native logical, %.2f times physical', @{ $r->{ways}{tide} }{qw(p50_ms p99_ms tps)}, @{ $r->{ratio} }{qw(logical physical)}),
		"<= $AIM{sync} times logical", sprintf('%.2f', $r->{ratio}{logical}) <= $AIM{sync}));
}

sub priority_rows
{
	my ($r) = @_;
	my @rows = ([ "lag of an important class, $r->{rate} rows/s, alone", sprintf 'p50 %.2f ms, p99 %.2f ms', @{ $r->{cases}{alone} }{qw(p50_ms p99_ms)} ]);
	push @rows, aimed('  while a flood comes by the low lane', sprintf('p50 %.2f ms, p99 %.2f ms; %.2f and %.2f times', @{ $r->{cases}{lanes} }{qw(p50_ms p99_ms)}, @{ $r->{ratio} }{qw(p50_ms p99_ms)}),
		"p50 <= $AIM{flooded} times", $r->{ratio}{p50_ms} <= $AIM{flooded});
	push @rows, [ '  both in one lane', sprintf 'p50 %.2f ms, p99 %.2f ms', @{ $r->{cases}{one_lane} }{qw(p50_ms p99_ms)} ];
	return @rows;
}

sub far_rows
{
	my ($r) = @_;
	my $case = "$r->{round_trip_ms} ms there and back, $r->{jitter_ms} ms of jitter, $r->{loss} % loss, $r->{rate} Mbit/s";
	return ([ "$r->{rows} rows over a bad link ($case), their stream alone", sprintf '%.0f rows/s', $r->{per_second}{stream} ],
		[ '  native', sprintf '%.0f rows/s; %.2f times that', $r->{per_second}{native}, $r->{share}{native} ],
		aimed('  pg_tide, direct', sprintf('%.0f rows/s; %.2f times that', $r->{per_second}{tide}, $r->{share}{tide}), ">= $AIM{far}", $r->{share}{tide} >= $AIM{far}));
}

sub rows
{
	my ($results) = @_;
	my @rows;
	push @rows, map { backlog_rows($_) } @{ $results->{rows} // [] };
	push @rows, copy_rows($results->{'rows-copy'}) if $results->{'rows-copy'};
	push @rows, lag_rows($results->{'rows-lag'}) if $results->{'rows-lag'};
	push @rows, map { wire_rows($_) } @{ $results->{'rows-wire'} // [] };
	push @rows, map { stamp_rows($_) } @{ $results->{stamp} // [] };
	push @rows, map { scope_rows($_) } @{ $results->{scope} // [] };
	push @rows, filter_rows($results->{filter}) if $results->{filter};
	push @rows, map { sync_rows($_) } @{ $results->{sync} // [] };
	push @rows, far_rows($results->{'rows-far'}) if $results->{'rows-far'};
	push @rows, priority_rows($results->{priority}) if $results->{priority};
	return @rows;
}

sub notes
{
	return <<~'END';
		- *Rows*: native is the same server's logical replication with binary = true, into tables without stamps; pg_tide's
		  have them. A backlog is made while nobody takes it; the time is from letting the consumer start until the other
		  region has the last row. Ratios are medians of ratios within a round. Rows are compared afterwards.
		  All is on one machine, where nothing but a shut window joins the server's small messages into packets; a direct link's
		  relay keeps it shut on purpose (relay/src/wal_stream.c), native's worker by being slower. Over a network the card does it.
		- *First copy*: the pipe is psql to psql without stamps or triggers; times are from asking for the copy until it is done. The relay
		  runs already. Rows come in the order of their key. Single rounds differ much on a shared machine, the pipe's too.
		- *Row seen*: by a session that looks every half millisecond; one client.
		- *Bytes between regions*: payload of TCP both ways, as the kernel counts it. A direct link reads the server's own
		  stream; over NATS frames are compressed (zstd) before they cross.
		- *Commit that waits*: pgbench inserts single rows; the round trip is made by tests/tools/wan.c. Native logical is a subscription with
		  synchronous_commit = on, physical a standby, both in synchronous_standby_names alone while they are measured.
		- *Rows over a bad link*: made by tests/tools/wan.c. One transaction; pg_recvlogical takes the stream alone, and stores nothing. From the commit until the last row is there; all are connected before. Losses are random, so single rounds differ much.
		- *Lag of an important class*: as *row seen*. The flood is a backlog of 1000-row transactions that the other region begins to apply when the measurement begins, and
		  has not finished when it ends. Ratios are medians of ratios within a round.
		- *Stamps*: rounds of 2 s in turn; cost is the median of the differences within a round.
		- *Scope, residency*: the same, against tables of the scope global; the region that writes is each row's home, and the primary.
		- *Reading the WAL*: pg_logical_slot_peek_binary_changes with the publications of a region, in one session; nothing is sent.
		END
}

1;
