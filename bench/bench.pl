# bench.pl: runs the measurements, prints them, writes them down.  Called by bench/run.
#
# Owns: options, the parts, the table (for rows: RowsReport.pm), results.json, docs/benchmarks.md.
# Does not own: measuring (bench/lib/Bench/*.pm).

use strict;
use warnings;

use Getopt::Long;
use JSON::PP;
use Time::HiRes qw(time);

use Bench::Bloat;
use Bench::Latency;
use Bench::Pipeline;
use Bench::Publish;
use Bench::Rows;
use Bench::RowsCopy;
use Bench::RowsFar;
use Bench::RowsLag;
use Bench::RowsPair;
use Bench::RowsPriority;
use Bench::RowsReport;
use Bench::RowsWire;
use Bench::Scope;
use Bench::Stamp;
use Bench::Sync;
use Bench::Util qw(region);

# What is aimed at: shown beside each figure.
my %AIM = (cost_over_insert => 1.3, speed_over_pgq => 1, direct => 0.5, nats => 0.3,
	latency_direct => 1.5, latency_nats => 5, relay_kib => 32 * 1024, dead => 0);

my $JSON = "$ENV{TIDE_TOP}/build/bench/results.json";

# Parts by the servers they run on, in this order.
my @EVENT_PARTS = (
	publish => sub { Bench::Publish::measure($_[0], $_[2]) }, pipeline => \&Bench::Pipeline::measure,
	latency => \&Bench::Latency::measure, bloat => \&Bench::Bloat::measure);
my @ROW_PARTS = (
	rows => \&Bench::Rows::measure, 'rows-copy' => \&Bench::RowsCopy::measure, 'rows-lag' => \&Bench::RowsLag::measure,
	'rows-wire' => \&Bench::RowsWire::measure, stamp => \&Bench::Stamp::measure,
	scope => \&Bench::Scope::measure, filter => \&Bench::Scope::measure_filters, priority => \&Bench::RowsPriority::measure);
# With servers of their own.
my @OWN_PARTS = (sync => \&Bench::Sync::measure, 'rows-far' => \&Bench::RowsFar::measure);
my @PARTS = grep { !ref } @EVENT_PARTS, @ROW_PARTS, @OWN_PARTS;

my ($quick, $only, $again, $write_docs);
GetOptions('quick' => \$quick, 'only=s' => \$only, 'again' => \$again,
	'write-docs' => \$write_docs) or exit 2;
my %wanted = map { $_ => 1 } split /,/, $only // join ',', @PARTS;
for my $part (keys %wanted)
{
	die "no part $part; there are: @PARTS\n" unless grep { $_ eq $part } @PARTS;
}

for my $own (grep { !ref && $wanted{$_} } @OWN_PARTS)
{
	die "$own has servers of its own, and must be measured alone: --only $own\n" if keys %wanted > 1 && !$again;
}

sub first_line
{
	my ($command) = @_;
	my ($line) = split /\n/, qx{$command 2>/dev/null};
	return $line // '';
}

sub load
{
	open my $in, '<', '/proc/loadavg' or die $!;
	return (split ' ', <$in>)[0] + 0;
}

sub machine
{
	open my $cpus, '<', '/proc/cpuinfo' or die $!;
	my @models = map { /^model name\s*:\s*(.*)/ ? $1 : () } <$cpus>;
	open my $mem, '<', '/proc/meminfo' or die $!;
	my ($kib) = <$mem> =~ /(\d+)/;
	return {
		cpus => scalar @models, cpu => $models[0] // 'unknown', memory_gib => int($kib / 1024 / 1024 + 0.5),
		kernel => first_line('uname -r'), postgresql => first_line('postgres --version'),
		nats => first_line('nats-server --version') };
}

# ---- rows of the table: [what, figure, aim, met] ----

sub row
{
	my ($what, $figure, $aim, $met) = @_;
	return [ $what, $figure, $aim // '', !defined $met ? '' : $met ? 'yes' : 'no' ];
}

sub publish_rows
{
	my ($results) = @_;
	my @rows;
	for my $r (@$results)
	{
		my $case = "$r->{clients} client" . ($r->{clients} > 1 ? 's' : '') . ", synchronous_commit $r->{synchronous_commit}";
		push @rows, row("publish, $case", sprintf('%.0f/s', $r->{tps}{pg_tide}));
		push @rows, row('  plain INSERT, one index', sprintf('%.0f/s; publishing costs %.2f times as much', $r->{tps}{insert}, $r->{cost_over_insert}),
			"<= $AIM{cost_over_insert}", $r->{cost_over_insert} <= $AIM{cost_over_insert});
		push @rows, row('  pgq.insert_event', sprintf('%.0f/s; publishing is %.2f times as fast', $r->{tps}{pgq}, $r->{speed_over_pgq}),
			'> 1', $r->{speed_over_pgq} > $AIM{speed_over_pgq}) if $r->{tps}{pgq};
	}
	return @rows;
}

sub relay_row
{
	my ($what, $peaks) = @_;
	my ($max) = sort { $b <=> $a } values %$peaks;
	return row("  relay's highest memory, $what", sprintf('%.1f MiB', $max / 1024), '< 32 MiB', $max < $AIM{relay_kib});
}

sub pipeline_rows
{
	my ($results) = @_;
	my @rows;
	for my $r (@$results)
	{
		push @rows, row("outbox to inbox, $r->{way}, $r->{events} events", sprintf('%.0f/s', $r->{events_per_second}));
		push @rows, row('  the inbox alone, one connection', sprintf('%.0f/s; share %.2f', $r->{inbox_alone}, $r->{share_of_inbox}),
			">= $AIM{$r->{way}}", $r->{share_of_inbox} >= $AIM{ $r->{way} });
		push @rows, row('  plain INSERT of such batches', sprintf('%.0f/s; share %.2f', $r->{plain_insert}, $r->{share_of_insert}));
		push @rows, relay_row($r->{way}, $r->{relay_peak_kib});
	}
	return @rows;
}

sub latency_rows
{
	my ($results) = @_;
	my @rows;
	for my $r (@$results)
	{
		my $aim = $AIM{"latency_$r->{way}"};
		push @rows, row("commit to commit, $r->{way}, $r->{rate} events/s", sprintf('p50 %.2f ms, p99 %.2f ms', $r->{p50_ms}, $r->{p99_ms}),
			"p50 <= $aim ms", $r->{p50_ms} <= $aim);
		push @rows, row('  until another session can read it', sprintf('p50 %.2f ms, p99 %.2f ms', $r->{seen_p50_ms}, $r->{seen_p99_ms}));
	}
	return @rows;
}

sub bloat_rows
{
	my ($r) = @_;
	my $where = join ', ', map { "$_: $r->{where}{$_}" } sort keys %{ $r->{where} };
	my $dead = $r->{dead_in_outbox} + $r->{dead_in_positions};
	return (
		row("dead rows after $r->{events} events, a snapshot held", "$dead in outbox and positions", '0', $dead == $AIM{dead}),
		row('  in other tables of schema tide', $r->{dead_elsewhere} . ($where ? " ($where)" : '')),
		row("  the outbox's largest size, retention 5 s", sprintf('%.0f MiB', $r->{outbox_peak_bytes} / 1024 / 1024)),
		relay_row('steady load', $r->{relay_peak_kib}));
}

sub table
{
	my ($results) = @_;
	my @rows = ([ 'what', 'measured', 'aim', 'met' ]);
	push @rows, publish_rows($results->{publish}) if $results->{publish};
	push @rows, pipeline_rows($results->{pipeline}) if $results->{pipeline};
	push @rows, latency_rows($results->{latency}) if $results->{latency};
	push @rows, bloat_rows($results->{bloat}) if $results->{bloat};
	push @rows, map { row(@$_) } Bench::RowsReport::rows($results);
	return @rows;
}

sub print_table
{
	my (@rows) = @_;
	my @width = map { my $c = $_; (sort { $b <=> $a } map { length $_->[$c] } @rows)[0] } 0 .. 3;
	printf $Bench::Util::OUT "%-*s  %-*s  %-*s  %s\n", $width[0], $_->[0], $width[1], $_->[1], $width[2], $_->[2], $_->[3] for @rows;
	return;
}

sub spew
{
	my ($path, $text) = @_;
	open my $out, '>', $path or die "$path: $!";
	print $out $text;
	close $out or die "$path: $!";
	return;
}

sub docs
{
	my ($results, @rows) = @_;
	my $m = $results->{machine};
	my $loads = join "\n", map { "Load average before and after @{[ join ', ', @{ $_->{parts} } ]}: $_->{load_before}, $_->{load_after}." } @{ $results->{runs} };
	my $text = <<~"END";
		# Benchmarks

		Made by `bench/run --write-docs`; `make bench` repeats it. Every figure is a median of interleaved rounds
		(A, B, A, B, ...), with the peer measured in the same run on the same server.

		Machine: $m->{cpus} x $m->{cpu}, $m->{memory_gib} GiB, Linux $m->{kernel}; $m->{postgresql}, $m->{nats}.
		$loads
		Publishers, both databases, brokers and relays share these processors; where the load before was not near
		zero, other programs did too, and times suffered.

		END
	$text .= join('', map { '| ' . join(' | ', @$_) . " |\n" } $rows[0], [ map { '---' } 0 .. 3 ], @rows[ 1 .. $#rows ]);
	$text .= <<~"END";

		- *Publish*: pgbench with prepared statements, one event of about 400 bytes a transaction.
		- *The inbox alone*: `bench/inbox_limit.c`, the same events in ready-made arrays, one connection, batches of 1000.
		- *Outbox to inbox*: all events were published before the relay started; the rate is by commit times in the
		  inbox. *nats* is two servers, a JetStream domain each, joined by a leaf node.
		- *Commit to commit*: by the commit times both servers keep; *until another session can read it* is by a session
		  that looks every half millisecond.
		- *Dead rows*: counted with pgstattuple while the snapshot is still held.
		END
	$text .= Bench::RowsReport::notes();
	spew("$ENV{TIDE_TOP}/docs/benchmarks.md", $text);
	return;
}

sub last_results
{
	open my $in, '<', $JSON or return;
	local $/;
	return decode_json(<$in>);
}

# Parts on a pair of servers, which end with them.
sub measure_parts
{
	my ($results, $pair, @parts) = @_;
	while (my ($name, $code) = splice @parts, 0, 2)
	{
		$results->{$name} = $code->(@$pair, $quick) if $wanted{$name};
	}
	$_->stop for map { $_->isa('Bench::RowsPair') ? ($_->{us}, $_->{eu}) : $_ } @$pair;
	return;
}

# Results of other parts are kept, with what is known of their run.
sub measure_all
{
	my $start = time;
	my @parts = grep { $wanted{$_} } @PARTS;
	my $results = last_results() // {};
	my $run = {parts => \@parts, quick => $quick ? JSON::PP::true : JSON::PP::false, load_before => load()};
	$results->{machine} = machine();
	measure_parts($results, [ region('us', 'us-east'), region('eu', 'eu-west') ], @EVENT_PARTS)
	  if grep { !ref && $wanted{$_} } @EVENT_PARTS;
	measure_parts($results, [ Bench::RowsPair->new($quick ? 20_000 : 1_000_000) ], @ROW_PARTS)
	  if grep { !ref && $wanted{$_} } @ROW_PARTS;
	measure_parts($results, [], @OWN_PARTS);
	@$run{qw(seconds load_after)} = (int(time - $start), load());
	for my $earlier (@{ $results->{runs} // [] })
	{
		$earlier->{parts} = [ grep { !$wanted{$_} } @{ $earlier->{parts} } ];
	}
	$results->{runs} = [ (grep { @{ $_->{parts} } } @{ $results->{runs} // [] }), $run ];
	spew($JSON, JSON::PP->new->canonical->pretty->encode($results));
	return $results;
}

my $results = $again ? last_results() // die "$JSON: no results yet\n" : measure_all();
if ($write_docs)
{
	my %full = map { $_ => 1 } map { @{ $_->{parts} } } grep { !$_->{quick} } @{ $results->{runs} };
	my @missing = grep { !$full{$_} } @PARTS;
	die "--write-docs wants full runs of all parts; missing: @missing\n" if @missing;
}
# All that is known, or what was just measured.
my %shown = %$results;
delete @shown{ grep { !$wanted{$_} } @PARTS } unless $again || $write_docs;
my @rows = table(\%shown);
print_table(@rows);
$rows[$_][0] =~ s/^ +/... / for 1 .. $#rows;
docs($results, @rows) if $write_docs;
