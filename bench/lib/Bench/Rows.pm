# Bench::Rows
#		How fast a backlog of rows is taken over, against the server's own logical replication.
#
# A round: nobody takes rows, us makes a backlog, the consumer is let go, and the clock stops when eu
# has the last row.  That includes starting (a worker there, a relay here).  Both sides are compared afterwards.
package Bench::Rows;

use strict;
use warnings;

use Bench::RowsNative;
use Bench::RowsTide;
use Bench::Util qw(one median say_progress);
use Time::HiRes qw(time);

my @PGBENCH = map { [ "pgbench_$_" ] } qw(accounts branches tellers);

# tables; clear: those emptied before each round; fill(pair, db, n); size: [quick, full]; rows: changes a transaction.
our %LOAD = (
	one_row => {
		tables => [ ['item'] ], clear => ['item'], size => [ 10_000, 300_000 ], changes => 1,
		fill => sub { $_[0]->one_row_transactions(@_[ 1, 2 ]) } },
	bulk => {
		tables => [ ['item'] ], clear => ['item'], size => [ 20, 1000 ], changes => 1000,
		fill => sub { $_[0]->bulk_transactions(@_[ 1, 2 ]) } },
	tpcb => {
		tables => [ @PGBENCH, [ 'pgbench_history', {insert_only => \1} ] ], clear => ['pgbench_history'],
		size => [ 4_000, 200_000 ], changes => 4, scale => [ 1, 10 ],
		fill => sub { $_[0]->tpcb_transactions(@_[ 1, 2 ]) } });
our @LOADS = qw(one_row bulk tpcb);

sub databases { my %seen; return grep { !$seen{$_}++ } map { $_->db } @_; }

# What a load needs of the pair and the ways before its rounds, and what undoes it.
sub prepare
{
	my ($pair, $name, $quick, @ways) = @_;
	my $load = $LOAD{$name};
	if ($load->{scale})
	{
		$pair->pgbench_tables($_, $load->{scale}[ $quick ? 0 : 1 ]) for databases(@ways);
	}
	$_->setup(['marker'], @{ $load->{tables} }) for @ways;
	if ($load->{scale})
	{
		$pair->seed($_, map { $_->[0] } @{ $load->{tables} }) for databases(@ways);
	}
	return;
}

sub finish
{
	my ($pair, $name, @ways) = @_;
	$_->teardown for @ways;
	return unless $LOAD{$name}{scale};
	$pair->both($_, 'DROP TABLE ' . join(', ', map { $_->[0] } @{ $LOAD{$name}{tables} })) for databases(@ways);
	return;
}

# The backlog is there, the consumer is not.
sub make_backlog
{
	my ($pair, $way, $name, $size) = @_;
	my $load = $LOAD{$name};
	$pair->clear($way->db, @{ $load->{clear} });
	$way->open;
	$load->{fill}->($pair, $way->db, $size);
	$pair->mark($way->db);
	one($pair->{$_}, 'CHECKPOINT') for qw(us eu);
	return;
}

# From letting the consumer go until eu has all: {seconds, us, eu, relay}, the latter processor seconds.
sub take_backlog
{
	my ($pair, $way, $name, $limit) = @_;
	my %before = ($pair->cpu, relay => $way->cpu);
	my $start = time;
	$way->release;
	my %took = (seconds => $pair->await($way->db, $limit // 300) - $start, $pair->cpu, relay => $way->cpu);
	$took{$_} -= $before{$_} for keys %before;
	$way->peaks;
	$pair->compare($way->db, 'marker', map { $_->[0] } @{ $LOAD{$name}{tables} });
	return \%took;
}

sub run
{
	my ($pair, $way, $name, $size) = @_;
	make_backlog($pair, $way, $name, $size);
	my $took = take_backlog($pair, $way, $name);
	$way->close;
	my %run = (per_second => $size / $took->{seconds}, map { $_ => $took->{$_} / $size * 1e6 } qw(us eu relay));
	say_progress(sprintf '  %s: %.0f transactions/s; processor time of each: us %.1f, eu %.1f, relay %.1f microseconds',
		$way->name, @run{qw(per_second us eu relay)});
	return \%run;
}

sub measure_load
{
	my ($pair, $quick, $name, @ways) = @_;
	my $load = $LOAD{$name};
	my $size = $load->{size}[ $quick ? 0 : 1 ];
	my %runs;
	prepare($pair, $name, $quick, @ways);
	for my $round (1 .. ($quick ? 1 : 3))
	{
		say_progress("rows: $name, round $round");
		push @{ $runs{ $_->name } }, run($pair, $_, $name, $size) for @ways;
	}
	finish($pair, $name, @ways);
	my (%ratio, %cpu);
	for my $way (map { $_->name } @ways)
	{
		my @native = @{ $runs{native} // [] };
		$ratio{$way} = median(map { $_->{per_second} / (shift @native)->{per_second} } @{ $runs{$way} }) if @native;
		$cpu{$way} = median(map { $_->{us} + $_->{eu} + $_->{relay} } @{ $runs{$way} });
	}
	return {
		load => $name, transactions => $size, changes_each => $load->{changes}, rounds => \%runs,
		per_second => { map { my $runs = $runs{$_}; $_ => median(map { $_->{per_second} } @$runs) } keys %runs }, ratio => \%ratio, cpu_us => \%cpu,
		relay_peak_kib => { map { my $way = $_; map { $way->name . "-$_" => $way->peaks->{$_} } keys %{ $way->peaks } } @ways } };
}

# TIDE_BENCH_WAYS and TIDE_BENCH_LOADS: only these, while working on one.
sub ways
{
	my ($pair) = @_;
	my %make = (native => sub { Bench::RowsNative->new($pair) }, map { my $t = $_; $t => sub { Bench::RowsTide->new($pair, $t) } } qw(direct nats));
	return map { $make{$_}->() } split /,/, $ENV{TIDE_BENCH_WAYS} // 'native,direct,nats';
}

sub measure
{
	my ($pair, $quick) = @_;
	return [ map { measure_load($pair, $quick, $_, ways($pair)) } split /,/, $ENV{TIDE_BENCH_LOADS} // join(',', @LOADS) ];
}

1;
